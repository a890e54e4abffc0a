import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
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

/** Ports that nothing listens on; none of them twice. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}

/** What the image's own nginx.conf is around conf.d, in a folder of the test's. */
function mainConfiguration(folder: string, http: string): string {
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
  ${http}
}
`
}

/** nginx with the compose file's configuration, in front of the app; only addresses and the log's place differ. */
export async function startNginx(t: Test, appUrl: string): Promise<string> {
  const [port] = (await freePorts(1)) as [number]
  const server = readFileSync(configuration, 'utf8')
    .replace('listen 80;', `listen 127.0.0.1:${port};`)
    .replace('access_log /dev/stdout export;', 'access_log off;')
  const upstream = `upstream app { server ${new URL(appUrl).host}; keepalive 32; }`
  const stop = await runNginx(`${upstream}\n${server}`, port, (text) => t.comment(`nginx: ${text}`))
  t.teardown(stop)
  return `http://127.0.0.1:${port}`
}

/**
 * Runs nginx until the returned function is called.
 *
 * @param http what its http context holds
 * @param port one of those that it listens on
 */
export async function runNginx(
  http: string,
  port: number,
  onMessage: (text: string) => void
): Promise<() => Promise<void>> {
  const folder = mkdtempSync(join(tmpdir(), 'nginx-test-'))
  const file = join(folder, 'nginx.conf')
  writeFileSync(file, mainConfiguration(folder, http))
  // A pipe of our own: one shared with the test runner would keep it waiting for an nginx that outlives a test.
  const nginx = spawn('nginx', ['-p', folder, '-e', 'stderr', '-c', file], {
    stdio: ['ignore', 'ignore', 'pipe']
  })
  nginx.stderr.on('data', (text) => onMessage(String(text)))
  const kill = () => nginx.kill('SIGTERM')
  process.once('exit', kill)
  const exit = once(nginx, 'exit')
  await accepting(port, () => nginx.exitCode === null)
  return async () => {
    process.off('exit', kill)
    kill()
    await exit
    rmSync(folder, { recursive: true })
  }
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
