import type { EventEmitter } from 'node:events'
import type { ServerHttp2Stream } from 'node:http2'
import { PassThrough, Readable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { PluginOptions } from '../../../plugins/csv-export/index.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

export const defaults: PluginOptions = { compress: true, genExportId: ({ id }) => id }
export const server = { keepAliveTimeout: 60_000 }

/** What a server still has of the exports of its connection. */
export interface Kept {
  /** Exports whose rows are still in memory. */
  rows: number
  heapUsed: number
  listeners: Record<string, number>[]
  /** Timers, immediates and the like. */
  resources: string[]
  warnings: string[]
}

let rows: WeakRef<object[]>[] = []
const warnings: string[] = []

/** About 100 KB, all of it this export's own. */
function ownRows(): object[] {
  const own = Array.from({ length: 1_000 }, (_, id) => ({ id, text: `${id}`.repeat(20) }))
  rows.push(new WeakRef(own))
  return own
}

function listenerCounts(emitter: EventEmitter): Record<string, number> {
  return Object.fromEntries(emitter.eventNames().map((name) => [String(name), emitter.listenerCount(name)]))
}

function emittersOf({ raw }: FastifyRequest): EventEmitter[] {
  const { session } = (raw as { stream?: ServerHttp2Stream }).stream ?? {}
  return session ? [session] : [raw.socket]
}

/** What hooks make of a body. */
const hooks: Record<string, (payload: Readable) => unknown> = {
  reads: (payload) => Readable.from(payload),
  pipes: (payload) => payload.pipe(new PassThrough()),
  replaces: () => 'other'
}

export default function (app: FastifyInstance): void {
  process.on('warning', ({ name, message }) => warnings.push(`${name}: ${message}`))
  app.addHook('onSend', async ({ query }, _reply, payload) => {
    const { hook } = query as { hook?: string }
    return hook === undefined ? payload : hooks[hook]?.(payload as Readable)
  })
  app.get('/array', (_request, reply) => reply.csv(ownRows()))
  app.get('/text', (_request, reply) => reply.streamText(ownRows().map((row) => JSON.stringify(row))))
  app.get('/generator', (_request, reply) => {
    const own = ownRows()
    return reply.csv(async function* () {
      for (const row of own) {
        yield row
        if (Math.random() < 0.002) await turn()
      }
    })
  })
  app.get('/late', (_request, reply) => {
    const own = ownRows()
    return reply.csv(
      async function* () {
        await turn()
        yield* own
      },
      { commitAfter: 1_000, sourceTimeout: 1_000, maxDuration: 1_000 }
    )
  })
  app.get('/early', (_request, reply) => {
    const own = ownRows()
    return reply.csv(() => Promise.reject(new Error(`${own.length} rows`)))
  })
  app.get('/refused', (_request, reply) => reply.csv(ownRows(), { delimiter: 5 } as object))
  app.get('/timed', { handlerTimeout: 10_000 }, (_request, reply) => reply.csv(ownRows()))
  app.get('/kept', async (request): Promise<Kept> => {
    for (let passed = 0; passed < 10; passed++) {
      await turn()
      collectGarbage()
    }
    rows = rows.filter((ref) => ref.deref() !== undefined)
    collectGarbage()
    return {
      rows: rows.length,
      heapUsed: process.memoryUsage().heapUsed,
      listeners: emittersOf(request).map(listenerCounts),
      resources: process.getActiveResourcesInfo().toSorted(),
      warnings
    }
  })
}
