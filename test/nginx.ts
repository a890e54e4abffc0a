import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { type RunningProgram, runListening } from './programs.ts'

const configuration = new URL('../docker/nginx.conf', import.meta.url)
const upstreams = new URL('../docker/upstream.conf', import.meta.url)

/** Ports that nothing listens on; none of them twice. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}

/** What the image's own nginx.conf is around conf.d, in a folder of the test's. */
export function mainConfiguration(folder: string, http: string): string {
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

export interface Nginx {
  url: string
  start(): Promise<void>
  /** SIGKILL to all of its processes; resolves when they are gone. */
  kill(): Promise<void>
}

/** nginx with the compose file's configuration, in front of the app; only addresses and the log's place differ. */
export async function startNginx(t: Test, ...appUrls: string[]): Promise<string> {
  const nginx = await configureNginx(t, ...appUrls)
  await nginx.start()
  return nginx.url
}

/** The same, to be started again at the same address after it has been killed. */
export async function configureNginx(t: Test, ...appUrls: string[]): Promise<Nginx> {
  const [port] = (await freePorts(1)) as [number]
  const server = readFileSync(configuration, 'utf8')
    .replace('listen 80;', `listen 127.0.0.1:${port};`)
    .replace('access_log /dev/stdout export;', 'access_log off;')
  const upstream = readFileSync(upstreams, 'utf8')
    .replace(/^ *resolver .*$/m, '')
    // Older versions of nginx take no name that is to be resolved.
    .replace(/^ *server app:3000 resolve(.*);$/m, (_line, parameters) =>
      appUrls.map((url) => `server ${new URL(url).host}${parameters};`).join('\n')
    )
  let running: RunningProgram | undefined
  t.teardown(() => running?.end('SIGTERM'))
  return {
    url: `http://127.0.0.1:${port}`,
    async start() {
      running = await runNginx(`${upstream}\n${server}`, port, (text) => t.comment(`nginx: ${text}`))
    },
    async kill() {
      await running?.end('SIGKILL')
      running = undefined
    }
  }
}

/**
 * @param http what its http context holds
 * @param port one of those that it listens on
 */
export async function runNginx(
  http: string,
  port: number,
  onMessage: (text: string) => void
): Promise<RunningProgram> {
  const folder = mkdtempSync(join(tmpdir(), 'nginx-test-'))
  const file = join(folder, 'nginx.conf')
  writeFileSync(file, mainConfiguration(folder, http))
  const running = await runListening(['nginx', '-p', folder, '-e', 'stderr', '-c', file], port, onMessage)
  return {
    async end(signal) {
      await running.end(signal)
      rmSync(folder, { recursive: true })
    }
  }
}
