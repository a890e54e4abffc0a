import type { EventEmitter } from 'node:events'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { buildApp } from '../../app.ts'
import type { Receipt } from '../../plugins/csv-export/index.ts'
import { listen, until } from '../clients.ts'

/** What the server tells: the answer to a command, an export that it begins, a receipt. */
export type Message = { answer: unknown } | { begun: string } | { receipt: Receipt }

/** What the server holds when nothing is under way. */
export interface Held {
  /** Bytes after a garbage collection. */
  heap: number
  external: number
  listeners: Record<string, number>
  resources: string[]
  warnings: string[]
}

// The sample server in a process of its own: what it holds is not mixed with what the clients and the test hold.
const tell = (message: Message): boolean => (process.send as (message: Message) => boolean)(message)
const warnings: string[] = []
process.on('warning', (warning) => warnings.push(warning.stack ?? warning.message))
setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void
let app: FastifyInstance

const commands = {
  async open(): Promise<string> {
    app = await buildApp({
      databaseUrl: process.argv[2] as string,
      exports: {
        digest: true,
        stallTimeout: 1_000,
        closeGrace: 50,
        genExportId: begin,
        onReceipt: (receipt) => tell({ receipt })
      }
    })
    return listen(app)
  },

  /** Answers when every connection is back in the pool. */
  async idle() {
    const { pool } = app.pg
    await until(() => pool.idleCount === pool.totalCount)
    return { waiting: pool.waitingCount, listeners: listenerCounts(app.server) }
  },

  async close() {
    await app.close()
    return { connections: app.pg.pool.totalCount }
  },

  async held(): Promise<Held> {
    // The database still has to answer the farewell of the pool's connections.
    const deadline = performance.now() + 5_000
    while (process.getActiveResourcesInfo().includes('TCPSocketWrap') && performance.now() < deadline) {
      await sleep(5)
    }
    for (let passed = 0; passed < 20; passed++) {
      await turn()
      collectGarbage()
    }
    const { heapUsed, external } = process.memoryUsage()
    const resources = process.getActiveResourcesInfo().toSorted()
    return { heap: heapUsed, external, listeners: listenerCounts(process), resources, warnings }
  }
}

export type Command = keyof typeof commands

function begin(request: FastifyRequest): string {
  const begun = String(request.headers['download-id'])
  tell({ begun })
  return begun
}

function listenerCounts(emitter: EventEmitter): Record<string, number> {
  return Object.fromEntries(emitter.eventNames().map((name) => [String(name), emitter.listenerCount(name)]))
}

process.on('message', async (command: Command) => tell({ answer: await commands[command]() }))
