import type { FastifyInstance, FastifyRequest } from 'fastify'
import { buildApp } from '../../app.ts'
import type { Receipt } from '../../plugins/csv-export/index.ts'
import { listen, until } from '../clients.ts'
import { held, listenerCounts } from './held.ts'

/** What the server tells: the answer to a command, an export that it begins, a receipt. */
export type Message = { answer: unknown } | { begun: string } | { receipt: Receipt }

// The sample server in a process of its own: what it holds is not mixed with what the clients and the test hold.
const tell = (message: Message): boolean => (process.send as (message: Message) => boolean)(message)
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

  held
}

export type Command = keyof typeof commands

function begin(request: FastifyRequest): string {
  const begun = String(request.headers['download-id'])
  tell({ begun })
  return begun
}

process.on('message', async (command: Command) => tell({ answer: await commands[command]() }))
