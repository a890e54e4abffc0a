import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { temporaryFolder } from '../database.ts'
import { freePorts } from '../nginx.ts'

/** PgBouncer in transaction mode, with two connections to the database; its connection string. */
export async function startPgBouncer(t: Test, url: string): Promise<string> {
  const { hostname, port, username, password } = new URL(url)
  const [ownPort] = (await freePorts(1)) as [number]
  const folder = await temporaryFolder(t)
  await chmod(folder, 0o755)
  const file = join(folder, 'pgbouncer.ini')
  await writeFile(
    file,
    `[databases]
postgres = host=${hostname} port=${port} user=${username} password=${password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${ownPort}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
`
  )
  const child = spawn('pgbouncer', [file], { ...unprivileged(), stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(async () => {
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  })
  for await (const line of createInterface({ input: child.stderr })) {
    if (line.includes('process up')) break
  }
  child.stderr.resume()
  return `postgres://${username}@127.0.0.1:${ownPort}/postgres`
}

/** As PostgreSQL, it refuses to run as root: the user is there that runs PostgreSQL for root. */
function unprivileged(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const id = (flag: string): number => Number(execFileSync('id', [flag, 'postgres']))
  return { uid: id('-u'), gid: id('-g') }
}
