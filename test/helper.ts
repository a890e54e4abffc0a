import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { type AppOptions, buildApp } from '../app.ts'
import csvExport, { type PluginOptions } from '../plugins/csv-export/index.ts'

/** The sample app, closed when the test ends. */
export async function build(t: Test, options: AppOptions = {}): Promise<FastifyInstance> {
  const app = await buildApp({ closeGrace: 0, ...options })
  t.teardown(() => app.close())
  return app
}

/** A log line as pino writes it. */
export interface LogLine {
  level: number
  msg: string
  [key: string]: any
}

/** Keeps a server's log, and lets a test wait for a line of it. */
export class Log extends EventEmitter {
  lines: LogLine[] = []
  readonly stream = new Writable({
    write: (chunk, _encoding, callback) => {
      const line = JSON.parse(chunk.toString())
      this.lines.push(line)
      this.emit('line', line)
      callback()
    }
  })

  /** The first line, past or to come, whose message matches. */
  async find(pattern: RegExp): Promise<LogLine> {
    for (;;) {
      const found = this.lines.find(({ msg }) => pattern.test(msg))
      if (found) return found
      await once(this, 'line')
    }
  }
}

export interface TestServer {
  app: FastifyInstance
  url: string
  log: Log
}

/**
 * A server with the plugin and the given routes, on a real socket.
 * @param options `defaults` are the plugin's, `server` are Fastify's, `before` is called before the plugin is registered
 */
export async function serve(
  t: Test,
  routes: (app: FastifyInstance) => unknown,
  {
    defaults,
    http2 = false,
    server,
    before
  }: {
    defaults?: PluginOptions
    http2?: boolean
    server?: object
    before?: (app: FastifyInstance) => unknown
  } = {}
): Promise<TestServer> {
  const log = new Log()
  const app = Fastify({
    logger: { stream: log.stream },
    ...(http2 ? { http2: true } : {}),
    ...server
  } as object) as unknown as FastifyInstance
  await before?.(app)
  await app.register(csvExport, { closeGrace: 0, ...defaults })
  await routes(app)
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  return { app, url: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`, log }
}

export interface CurlResult {
  /** curl's exit status: 0 is a whole body, 18 a missing end, 56 a reset, 92 a stream error on HTTP/2. */
  code: number
  body: string
  stderr: string
}

/** Runs the real curl to its end. */
export async function curl(...args: string[]): Promise<CurlResult> {
  const child = spawn('curl', ['-sS', '--max-time', '60', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const chunks: Buffer[] = []
  let stderr = ''
  child.stdout.on('data', (chunk) => chunks.push(chunk))
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const [code] = await once(child, 'close')
  return { code, body: Buffer.concat(chunks).toString(), stderr }
}

/** A promise to be settled from outside, for sources that a test makes wait. */
export function gate<T = void>(): { opened: Promise<T>; open: (value: T) => void } {
  const { promise, resolve } = Promise.withResolvers<T>()
  return { opened: promise, open: resolve }
}
