import { readFileSync } from 'node:fs'
import { type Readable, Writable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import csvExport, { type Receipt } from '../../../plugins/csv-export/index.ts'
import { ends, endsOfHttp1, endsOfHttp2 } from '../../attacks/subjects/ends.ts'
import { hooks } from '../../attacks/subjects/hooks.ts'
import { listen } from '../../clients.ts'
import { held } from '../held.ts'
import { leftOf, lookAtPlain, quietOf, watchConnections } from './left.ts'
import { type Asked, places } from './plans.ts'
import { type Injected, inject } from './readers.ts'
import { isInBatches, sourceOf } from './sources.ts'

/** What the server tells: the answer to a command, an export that it is asked for, one that begins, a receipt. */
export type Message =
  | { answer: unknown; number: number }
  | { called: string }
  | { begun: string }
  | { receipt: Receipt }

export type Command =
  | { name: 'open' | 'lookAtPlain' | 'left' | 'quiet' | 'fill' | 'close' | 'held' }
  | { name: 'inject'; injected: Injected }

const tell = (message: Message): unknown => process.send?.(message)
const [key, certificate] = process.argv.slice(2)
/** A log that is written, as pino does its work only then. */
const log = new Writable({ write: (_line, _encoding, done) => done() })

const servers: Record<string, object> = {
  http1: {},
  timed: { connectionTimeout: 100, keepAliveTimeout: 30 },
  http2: { http2: true },
  ...(key !== undefined &&
    certificate !== undefined && {
      tls: { https: { key: readFileSync(key), cert: readFileSync(certificate) } },
      'http2-tls': { http2: true, https: { key: readFileSync(key), cert: readFileSync(certificate) } }
    })
}

/** The servers, their origins by name. */
const apps = new Map<string, FastifyInstance>()
const begun = new Set<string>()
const ended = new Set<string>()
let fill: { started: number; end: Promise<void> } | undefined

async function open(): Promise<Record<string, string>> {
  apps.clear()
  begun.clear()
  ended.clear()
  const origins: Record<string, string> = {}
  for (const [name, options] of Object.entries(servers)) {
    const app = Fastify({ logger: { stream: log }, ...options } as object) as unknown as FastifyInstance
    apps.set(name, app)
    watchConnections(name, app.server)
    await app.register(csvExport, {
      closeGrace: 50,
      digest: true,
      maxConcurrent: places,
      genExportId(request) {
        const id = String(request.headers['x-export'])
        if (fill === undefined) tell({ called: id })
        return id
      },
      receipts: {
        begin({ id }) {
          if (fill !== undefined) return
          begun.add(id)
          tell({ begun: id })
        },
        put(receipt) {
          if (fill !== undefined) return
          ended.add(receipt.id)
          tell({ receipt })
        },
        get: () => undefined
      }
    })
    addRoutes(app)
    origins[name] = (await listen(app)).replace(/^http:/, 'https' in options ? 'https:' : 'http:')
  }
  return origins
}

const askedOf = ({ headers }: FastifyRequest): Asked => JSON.parse(String(headers.plan))

function addRoutes(app: FastifyInstance): void {
  app.addHook<Readable>('onSend', async (request, _reply, payload) => {
    if (request.headers.plan === undefined || typeof payload === 'string') return payload
    const { hook } = askedOf(request)
    if (hook === 'replaces') return 'other'
    return hook === undefined ? payload : hooks[hook]?.(payload, request)
  })
  app.get('/plain', async () => 'plain')
  app.get('/full', (_request, reply) =>
    reply.csv(async () => {
      const { end } = fill as { started: number; end: Promise<void> }
      if (fill !== undefined) fill.started++
      await end
      return []
    })
  )
  app.get('/export', (request, reply) => {
    const asked = askedOf(request)
    return reply.csv(
      sourceOf(asked, () => endReply(asked, { app, request, reply })),
      { batches: isInBatches(asked) as true, ...asked.limits }
    )
  })
}

/** The server's own code ends the reply, where it is asked to. */
function endReply(
  { end, turns }: Asked & { turns?: number },
  running: { app: FastifyInstance; request: FastifyRequest; reply: FastifyReply }
): void {
  if (end === undefined) return
  const all = { ...ends, ...endsOfHttp1, ...endsOfHttp2 }
  // A source that goes on does so in the meantime.
  setTimeout(() => {
    try {
      all[end]?.(running)
    } catch {
      // The stream or its session may have gone, and a TLS socket has no reset of its own.
      running.reply.raw.destroy()
    }
  }, turns)
}

/** How many exports each server still admits at a time. */
async function fillAll(): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const [name, app] of apps) {
    const { promise, resolve } = Promise.withResolvers<void>()
    fill = { started: 0, end: promise }
    const replies = Array.from({ length: places }, () => app.inject('/full'))
    // Those that are refused are over.
    await Promise.race([Promise.all(replies), untilFull()])
    counts[name] = fill.started
    resolve()
    await Promise.all(replies)
  }
  fill = undefined
  return counts
}

async function untilFull(): Promise<void> {
  const deadline = performance.now() + 2_000
  while ((fill?.started ?? places) < places && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

async function close(): Promise<number> {
  const began = performance.now()
  await Promise.all([...apps.values()].map((app) => app.close()))
  return performance.now() - began
}

async function answer(command: Command): Promise<unknown> {
  if (command.name === 'open') return open()
  if (command.name === 'inject') return inject(apps.get('http1') as FastifyInstance, command.injected)
  if (command.name === 'lookAtPlain') return lookAtPlain()
  if (command.name === 'left') return leftOf(begun, ended)
  if (command.name === 'quiet') return quietOf()
  if (command.name === 'fill') return fillAll()
  if (command.name === 'close') return close()
  return held()
}

process.on('message', async ({ number, ...command }: Command & { number: number }) =>
  tell({ answer: (await answer(command as Command)) ?? null, number })
)
