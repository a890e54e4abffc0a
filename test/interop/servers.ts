import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import csvExport from '../../plugins/csv-export/index.ts'
import { freePorts, runNginx } from '../nginx.ts'
import { type Cell, type Listener, type Path, paths } from './cells.ts'

/** Names of files. */
export interface Certificate {
  key: string
  certificate: string
  remove(): void
}

/** A certificate for 127.0.0.1 that has signed itself. */
export function makeCertificate(): Certificate {
  const folder = mkdtempSync(join(tmpdir(), 'interop-'))
  const key = join(folder, 'key.pem')
  const certificate = join(folder, 'certificate.pem')
  const request =
    'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=interop -days 1'
  const files = ['-keyout', key, '-out', certificate]
  execFileSync('openssl', [...request.split(' '), ...files, '-addext', 'subjectAltName=IP:127.0.0.1'], {
    stdio: 'ignore'
  })
  return { key, certificate, remove: () => rmSync(folder, { recursive: true }) }
}

type Handler = (request: FastifyRequest, reply: FastifyReply) => FastifyReply

/** A server of its own for one download. */
export async function startApp(
  listener: Listener,
  certificate: Certificate | undefined,
  plugin: object,
  handler: Handler
): Promise<FastifyInstance> {
  const app = Fastify(serverOptions(listener, certificate)) as unknown as FastifyInstance
  await app.register(csvExport, plugin)
  app.get('*', handler)
  await app.listen({ host: '127.0.0.1', port: 0 })
  return app
}

function serverOptions(listener: Listener, certificate: Certificate | undefined): object {
  if (listener === 'plain') return {}
  if (listener === 'h2c' || certificate === undefined) return { http2: true }
  const https = {
    key: readFileSync(certificate.key),
    cert: readFileSync(certificate.certificate),
    allowHTTP1: true
  }
  return { http2: true, https }
}

export interface Nginx {
  /** The port of each of a path's listeners. */
  ports: Map<Path, Record<Listener, number>>
  stop(): Promise<void>
}

/** One nginx with a server for each path; the first part of a URL's path is the port of the app behind it. */
export async function startNginx(certificate: Certificate | undefined): Promise<Nginx> {
  const ports: Nginx['ports'] = new Map()
  const servers: string[] = []
  const free = await freePorts(3 * paths.length)
  for (const path of paths) {
    if (path.nginx === undefined) continue
    const port = { plain: free.pop() as number, h2c: free.pop() as number, tls: free.pop() as number }
    ports.set(path, port)
    const tls =
      certificate &&
      `
        listen 127.0.0.1:${port.tls} ssl http2;
        ssl_certificate ${certificate.certificate};
        ssl_certificate_key ${certificate.key};`
    servers.push(`
      server {
        listen 127.0.0.1:${port.plain};
        listen 127.0.0.1:${port.h2c} http2;
        ${tls ?? ''}
        ${path.nginx}
        location ~ ^/(?<app>[0-9]+)/ {
          proxy_pass http://127.0.0.1:$app;
          proxy_set_header X-Client-Protocol $server_protocol;
        }
      }`)
  }
  const [first] = [...ports.values()] as [Record<Listener, number>]
  // Each broken upstream is an error to it.
  const quiet = 'access_log off; error_log stderr emerg;'
  const nginx = await runNginx(quiet + servers.join(''), first.plain, console.error)
  return { ports, stop: () => nginx.end('SIGTERM') }
}

/** Where a cell's client finds the app. */
export function address({ protocol, path }: Cell, app: FastifyInstance, nginx: Nginx | undefined): string {
  const scheme = protocol.listener === 'tls' ? 'https' : 'http'
  const { port } = app.server.address() as AddressInfo
  const front = nginx?.ports.get(path)?.[protocol.listener] ?? port
  return `${scheme}://127.0.0.1:${front}/${port}/export.csv`
}
