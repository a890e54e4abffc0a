import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import csvExport, { type PluginOptions } from '../../../plugins/csv-export/index.ts'
import csvRuns, {
  defineReport,
  type FileStore,
  type FileWriter,
  type Report,
  type Run,
  type RunsOptions
} from '../../../plugins/runs/index.ts'
import { startDatabase } from '../../database.ts'
import { Log, type TestServer } from '../../helper.ts'

/** Connection string of a PostgreSQL of the test's own, without cargoes. */
export const startEmptyPostgres = (t: Test): Promise<string> => startDatabase(t, { rows: 0 })

export interface RunsServerOptions extends Partial<RunsOptions> {
  connectionString: string
  /** Options of csvExport. */
  defaults?: PluginOptions
  /** Options of Fastify. */
  server?: object
  /** Called before the plugins are registered. */
  before?: (app: FastifyInstance) => unknown
  /** Called after they are. */
  after?: (app: FastifyInstance) => unknown
}

let schemas = 0

/** A schema that nobody else has. */
export const newSchema = (): string => `runs_${schemas++}`

/** Servers with runs, on real sockets, which share a database; the owner is the header `user`. */
export async function serveRuns(
  t: Test,
  { defaults, server, before, after, ...options }: RunsServerOptions
): Promise<TestServer> {
  const log = new Log()
  const app = Fastify({ logger: { stream: log.stream }, ...server }) as unknown as FastifyInstance
  await before?.(app)
  await app.register(csvExport, { closeGrace: 0, ...defaults })
  await app.register(csvRuns, {
    schema: newSchema(),
    reports: [numbers],
    files: new MemoryFiles(),
    owner: ({ headers }) => String(headers.user ?? 'ann'),
    ...options
  })
  await after?.(app)
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  return { app, url: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`, log }
}

/** `count` rows. */
export const numbers: Report = defineReport({
  name: 'numbers',
  version: 1,
  parameters: {
    type: 'object',
    additionalProperties: false,
    properties: { count: { type: 'integer', minimum: 0, default: 3 }, label: { type: 'string' } }
  },
  *rows({ parameters: { count, label = 'x' } }) {
    for (let id = 1; id <= count; id++) yield { id, label }
  },
  csv: { filename: 'numbers.csv', columns: ['id', 'label'] }
})

/** Reports whose rows wait: they tell that they are asked for, and end when they are let go on. */
export function heldReport(name = 'held') {
  const asked = Promise.withResolvers<AbortSignal>()
  const released = Promise.withResolvers<void>()
  const report = defineReport({
    name,
    version: 1,
    parameters: { type: 'object', properties: { key: { type: 'integer' } } },
    async *rows({ signal }: { signal: AbortSignal }) {
      yield { id: 1 }
      asked.resolve(signal)
      await released.promise
      yield { id: 2 }
    }
  })
  return { report, asked: asked.promise, release: released.resolve }
}

export interface Answer {
  status: number
  headers: Headers
  /** JSON, as far as it is some. */
  body: any
}

/** Asks with a body of JSON, if there is one, as the user, if one is named. */
export async function ask(
  url: string,
  { method = 'GET', json, user, headers = {}, signal }: AskOptions = {}
): Promise<Answer> {
  const response = await fetch(url, {
    method,
    redirect: 'manual',
    headers: {
      ...(json === undefined ? {} : { 'content-type': 'application/json' }),
      ...(user === undefined ? {} : { user }),
      ...headers
    },
    ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    ...(signal === undefined ? {} : { signal })
  })
  const text = await response.text()
  const isJson = text !== '' && /json/.test(String(response.headers.get('content-type')))
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text }
}

export interface AskOptions {
  method?: string
  json?: unknown
  user?: string
  headers?: Record<string, string>
  signal?: AbortSignal
}

/** Asks for a run of a report. */
export async function post(url: string, report: string, options: AskOptions = {}): Promise<Answer> {
  return await ask(`${url}/reports/${report}/runs`, { method: 'POST', json: {}, ...options })
}

/** The run when it has ended. */
export async function ended(url: string, id: string, user?: string): Promise<Run> {
  const { body } = await ask(`${url}/runs/${id}`, {
    headers: { prefer: 'wait=60' },
    ...(user === undefined ? {} : { user })
  })
  return body
}

/** A run of the report that has ended. */
export async function finishedRun(url: string, report: string, options: AskOptions = {}): Promise<Run> {
  const { status, body } = await post(url, report, options)
  if (status !== 202) throw new Error(JSON.stringify(body))
  return await ended(url, body.id, options.user)
}

export interface CurlReply {
  /** curl's exit status. */
  code: number
  status: number
  headers: Headers
  body: Buffer
}

/** The real curl, with the head of the last reply, and its body as bytes. */
export async function curlReply(...args: string[]): Promise<CurlReply> {
  const child = spawn('curl', ['-sS', '-i', '--max-time', '60', ...args], {
    stdio: ['ignore', 'pipe', 'ignore']
  })
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk) => chunks.push(chunk))
  const [code] = await once(child, 'close')
  const all = Buffer.concat(chunks)
  const end = all.indexOf('\r\n\r\n')
  const [first = '', ...lines] = all.subarray(0, end).toString().split('\r\n')
  const headers = new Headers(lines.map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string]))
  return { code, status: Number(first.split(' ')[1]), headers, body: all.subarray(end + 4) }
}

/** Files in this process's memory. */
export class MemoryFiles implements FileStore {
  readonly kept = new Map<string, Buffer>()

  async create(id: string): Promise<FileWriter> {
    const chunks: Buffer[] = []
    return {
      append: async (chunk) => void chunks.push(chunk),
      seal: async () => void this.kept.set(id, Buffer.concat(chunks))
    }
  }

  async *read(id: string, from: number, to: number): AsyncGenerator<Buffer> {
    const file = this.kept.get(id)
    if (file === undefined) throw new Error(`no file ${id}`)
    for (let at = from; at < to; at += 65_536) yield file.subarray(at, Math.min(at + 65_536, to))
  }

  async discard(id: string): Promise<void> {
    this.kept.delete(id)
  }

  async *list(): AsyncGenerator<string> {
    yield* this.kept.keys()
  }
}
