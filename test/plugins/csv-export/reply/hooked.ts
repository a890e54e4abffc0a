import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Test } from 'tap'
import type { Receipt } from '../../../../plugins/csv-export/index.ts'
import { type Log, serve } from '../../../helper.ts'

/** What a hook makes of a body. */
export type Hook = (payload: Readable, reply: FastifyReply) => unknown

export const row = { text: 'some text of a row' }
/** What `/whole` sends. */
export const whole = `text\n${'some text of a row\n'.repeat(5_000)}`
export const versions = ['--http1.0', '--http1.1', '--http2-prior-knowledge']

export function addHook(app: FastifyInstance, hook: Hook): void {
  app.addHook('onSend', async (_request, reply, payload) =>
    payload instanceof Readable ? hook(payload, reply) : payload
  )
}

function addRoutes(app: FastifyInstance, hook: Hook): void {
  addHook(app, hook)
  app.get('/whole', (_request, reply) =>
    reply.csv(function* () {
      for (let n = 0; n < 5_000; n++) yield row
    })
  )
  app.get('/early', (_request, reply) =>
    reply.csv(async () => {
      await setTimeout(20)
      throw Object.assign(new Error('early'), { code: 'EARLY' })
    })
  )
  app.get('/late', (_request, reply) =>
    reply.csv(async function* () {
      yield row
      await setTimeout(20)
      throw Object.assign(new Error('late'), { code: 'LATE' })
    })
  )
  app.get('/limit', (_request, reply) => reply.csv([row, row], { maxRows: 1 }))
  app.get('/endless', (_request, reply) =>
    reply.csv(async function* ({ signal }) {
      yield row
      if (!signal.aborted) await once(signal, 'abort')
    })
  )
}

export interface Served {
  app: FastifyInstance
  url: string
  log: Log
  /** The next receipt. */
  receipt(): Promise<Receipt>
}

/** A server whose bodies pass through a hook; its routes are named by their end. */
export async function serveWith(t: Test, hook: Hook, version = '--http1.1'): Promise<Served> {
  const waiting: ((receipt: Receipt) => void)[] = []
  const told: Receipt[] = []
  const { app, url, log } = await serve(t, (app) => addRoutes(app, hook), {
    http2: version.startsWith('--http2'),
    defaults: {
      onReceipt(receipt) {
        const next = waiting.shift()
        if (next === undefined) told.push(receipt)
        else next(receipt)
      }
    }
  })
  const receipt = async () => told.shift() ?? (await new Promise<Receipt>((resolve) => waiting.push(resolve)))
  return { app, url, log, receipt }
}

/** Asks, and leaves with the first bytes. */
export async function leave(url: string): Promise<void> {
  const [reply] = (await once(get(url), 'response')) as [IncomingMessage]
  await once(reply, 'data')
  reply.destroy()
}

/** Waits for an export to run. */
export async function runs(app: FastifyInstance): Promise<void> {
  while (app.csvExports.running().length === 0) await setTimeout(5)
}
