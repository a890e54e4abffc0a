import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

const configuration = new URL('../docker/nginx.conf', import.meta.url)

export function nginxIsInstalled(): boolean {
  try {
    execFileSync('nginx', ['-v'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** What the image's own nginx.conf is around conf.d, in a folder of the test's. */
function mainConfiguration(folder: string, upstream: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${folder}/${name};`)
    .join('\n')
  return `
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr error;
events {}
http {
  ${temporary}
  upstream app { server ${upstream}; keepalive 32; }
  include ${folder}/conf.d/nginx.conf;
}
`
}

export interface Nginx {
  url: string
  start(): Promise<void>
  /** SIGKILL to all of its processes; resolves when they are gone. */
  kill(): Promise<void>
}

/** nginx with the compose file's configuration, in front of the app; only addresses and the log's place differ. */
export async function startNginx(t: Test, appUrl: string): Promise<string> {
  const nginx = await configureNginx(t, appUrl)
  await nginx.start()
  return nginx.url
}

export async function configureNginx(t: Test, appUrl: string): Promise<Nginx> {
  const folder = mkdtempSync(join(tmpdir(), 'nginx-test-'))
  const port = await freePort()
  const server = readFileSync(configuration, 'utf8')
    .replace('listen 80;', `listen 127.0.0.1:${port};`)
    .replace('/dev/stdout', `${folder}/access.log`)
  mkdirSync(join(folder, 'conf.d'))
  writeFileSync(join(folder, 'conf.d/nginx.conf'), server)
  writeFileSync(join(folder, 'nginx.conf'), mainConfiguration(folder, new URL(appUrl).host))

  let child: ChildProcess | undefined
  const end = (signal: NodeJS.Signals): void => {
    // Its workers are in its process group.
    if (child?.exitCode === null && child.signalCode === null) process.kill(-(child.pid as number), signal)
  }
  const stop = (): void => end('SIGTERM')
  process.once('exit', stop)
  t.teardown(async () => {
    process.off('exit', stop)
    stop()
    if (child?.exitCode === null && child.signalCode === null) await once(child, 'exit')
    rmSync(folder, { recursive: true })
  })
  return {
    url: `http://127.0.0.1:${port}`,
    async start() {
      const started = spawnNginx(folder)
      started.stderr.on('data', (text) => t.comment(`nginx: ${text}`))
      child = started
      await accepting(port, () => started.exitCode === null)
    },
    async kill() {
      end('SIGKILL')
      await once(child as ChildProcess, 'close')
    }
  }
}

/** A pipe of our own: one shared with the test runner would keep it waiting for an nginx that outlives a test. */
function spawnNginx(folder: string) {
  return spawn('nginx', ['-p', folder, '-e', 'stderr', '-c', join(folder, 'nginx.conf')], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true
  })
}

/** nginx does not say when it listens. */
async function accepting(port: number, isAlive: () => boolean): Promise<void> {
  while (isAlive()) {
    const socket = connect(port, '127.0.0.1')
    const connected = await once(socket, 'connect').then(
      () => true,
      () => false
    )
    socket.destroy()
    if (connected) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error('nginx has ended: see its message above')
}
