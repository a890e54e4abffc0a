import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { S3ClientConfig } from '@aws-sdk/client-s3'
import type { Test } from 'tap'
import { temporaryFolder } from '../database.ts'
import { freePorts } from '../nginx.ts'

export interface Swift {
  /** How its S3 is reached. */
  s3: S3ClientConfig
  /** The names in a container of its own API: with `+segments`, those of a bucket's parts. */
  names(container: string): Promise<string[]>
}

const user = 'test:tester'
const password = 'testing'

/**
 * OpenStack Swift with its S3 API, of one host and one device.
 * @param disk holds what it stores; its file system has to have extended attributes. A fifth of it is kept free of objects,
 * since Swift needs room to remove one.
 */
export async function startSwift(t: Test, disk?: string): Promise<Swift> {
  const folder = await temporaryFolder(t)
  // What is started as root goes on as another user, memcached at least.
  await chmod(folder, 0o755)
  const devices = disk ?? join(folder, 'devices')
  await mkdir(join(devices, 'd1'), { recursive: true })
  const [proxy, account, container, object, cache] = (await freePorts(5)) as [
    number,
    number,
    number,
    number,
    number
  ]
  await writeFile(join(folder, 'swift.conf'), '[swift-hash]\nswift_hash_path_suffix = test\n')
  const run = (program: string, args: string[]): void => {
    const child = spawn(program, args, { cwd: folder, stdio: 'ignore' })
    t.teardown(async () => {
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    })
  }
  const serve = async (name: string, port: number, configuration: string): Promise<void> => {
    const file = join(folder, `${name}.conf`)
    await writeFile(
      file,
      `[DEFAULT]
bind_ip = 127.0.0.1
bind_port = ${port}
workers = 0
user = ${userInfo().username}
swift_dir = ${folder}
devices = ${devices}
mount_check = false
fallocate_reserve = ${disk === undefined ? '0' : '20%'}
${configuration}`
    )
    run(`swift-${name}-server`, [file])
  }

  run('memcached', ['-u', 'nobody', '-l', '127.0.0.1', '-p', String(cache)])
  for (const [name, port] of Object.entries({ account, container, object })) {
    makeRing(folder, name, port)
    await serve(
      name,
      port,
      `[pipeline:main]\npipeline = ${name}-server\n[app:${name}-server]\nuse = egg:swift#${name}\n`
    )
  }
  await serve('proxy', proxy, proxyConfiguration(cache))
  await Promise.all([proxy, account, container, object, cache].map(answers))
  const url = `http://127.0.0.1:${proxy}`
  return {
    s3: {
      endpoint: url,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: { accessKeyId: user, secretAccessKey: password }
    },
    names: (container) => names(url, container)
  }
}

/** Where what is stored is: all of it on the one device. */
function makeRing(folder: string, name: string, port: number): void {
  const device = [
    '--region',
    1,
    '--zone',
    1,
    '--ip',
    '127.0.0.1',
    '--port',
    port,
    '--device',
    'd1',
    '--weight',
    1
  ]
  for (const args of [['create', 4, 1, 0], ['add', ...device], ['rebalance']]) {
    const options = { cwd: folder, stdio: 'ignore' } as const
    execFileSync('swift-ring-builder', [`${name}.builder`, ...args.map(String)], options)
  }
}

function proxyConfiguration(cache: number): string {
  // A full device is asked again at once, since there is no other.
  const filters = [
    'catch_errors',
    'gatekeeper',
    'healthcheck',
    'memcache',
    'bulk',
    's3api',
    'tempauth',
    'slo',
    'dlo'
  ]
  const sections = filters.map((name) => `[filter:${name}]\nuse = egg:swift#${name}\n`)
  const settings: Record<string, string> = {
    memcache: `memcache_servers = 127.0.0.1:${cache}\n`,
    tempauth: `user_${user.replace(':', '_')} = ${password} .admin\n`
  }
  return `[pipeline:main]
pipeline = ${filters.join(' ')} proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_interval = 0
${sections.map((section, index) => section + (settings[filters[index] as string] ?? '')).join('')}`
}

/** Waits until something listens. */
async function answers(port: number): Promise<void> {
  const deadline = performance.now() + 60_000
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return
    } catch (error) {
      if (performance.now() > deadline) throw error
      await sleep(50)
    } finally {
      socket.destroy()
    }
  }
}

async function names(url: string, container: string): Promise<string[]> {
  const headers = { 'x-auth-user': user, 'x-auth-key': password }
  const session = await fetch(`${url}/auth/v1.0`, { headers })
  const token = session.headers.get('x-auth-token') as string
  const storage = session.headers.get('x-storage-url') as string
  const listed = await fetch(`${storage}/${encodeURIComponent(container)}`, {
    headers: { 'x-auth-token': token }
  })
  return (await listed.text()).split('\n').filter(Boolean)
}
