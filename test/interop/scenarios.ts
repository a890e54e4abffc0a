import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Readable, type Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { PluginOptions } from '../../plugins/csv-export/index.ts'

export interface Run {
  app: FastifyInstance
  client: ChildProcess
}

/** One way for an export to end. */
export interface Scenario {
  name: string
  /** Options of the plugin. */
  plugin?: PluginOptions
  send(reply: FastifyReply, run: Run): FastifyReply
}

/** Not compressible: otherwise gzip would hold a whole body back until its end. */
const noise = randomBytes(1_000_000).toString('base64')
const row = (id: number) => [id, noise.slice((id * 40) % 1_000_000, ((id * 40) % 1_000_000) + 40)]
const many = 20_000
const format = { header: false }
const failure = new Error('the source failed')

function* rows(count: number): Generator<unknown[]> {
  for (let id = 0; id < count; id++) yield row(id)
}

/** What a client must have got when an export is whole. */
export const wholeBody = Buffer.from([...rows(many)].map((fields) => `${fields.join(',')}\n`).join(''))

export const control: Scenario = {
  name: 'whole',
  send: (reply) => reply.csv(rows(many), format)
}

const failures: Scenario[] = [
  {
    name: 'fails after many rows',
    send: (reply) =>
      reply.csv(
        (function* () {
          yield* rows(many)
          throw failure
        })(),
        format
      )
  },
  {
    name: 'fails after one row',
    send: (reply) =>
      reply.csv(
        (async function* () {
          yield row(0)
          // No client says when it has got a row.
          await sleep(50)
          throw failure
        })(),
        format
      )
  },
  {
    name: 'fails during a drain wait',
    send(reply, { client }) {
      client.kill('SIGSTOP')
      const { raw } = reply
      const destination = ('stream' in raw ? raw.stream : raw) as Writable
      const source = Readable.from(
        reportStall(rows(Number.POSITIVE_INFINITY), () => {
          if (destination.writableLength === 0) return false
          source.destroy(failure)
          // The break may come before the client reads on, or after.
          Promise.race([once(raw, 'close'), sleep(100)]).then(() => client.kill('SIGCONT'))
          return true
        })
      )
      return reply.csv(source, format)
    }
  },
  {
    name: 'limit reached',
    send: (reply) => reply.csv(rows(many), { ...format, maxRows: many - 1 })
  },
  {
    name: 'shutdown',
    plugin: { closeGrace: 100 },
    send: (reply, { app }) =>
      reply.csv(async function* ({ signal }) {
        yield* rows(many)
        app.close()
        for (let id = many; ; id++) {
          yield row(id)
          await sleep(10, undefined, { signal })
        }
      }, format)
  }
]

export const scenarios: Scenario[] = [control, ...failures]

/** Calls back when nobody has asked for an item for a while: no event tells that a client has stopped reading. */
function* reportStall<T>(items: Iterable<T>, stalled: () => boolean): Generator<T> {
  const timer = setTimeout(() => stalled() || timer.refresh(), 200)
  try {
    for (const item of items) {
      timer.refresh()
      yield item
    }
  } finally {
    clearTimeout(timer)
  }
}
