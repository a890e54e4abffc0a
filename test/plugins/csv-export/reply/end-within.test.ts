import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { setImmediate as turn } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { PluginOptions, Receipt } from '../../../../plugins/csv-export/index.ts'
import { curl, serve } from '../../../helper.ts'

const ended = { status: 'server_ended', errorCode: 'CSV_EXPORT_SERVER_ENDED' }
const large = 'x'.repeat(1_000_000)

/** Ends all that run, as somebody may whose own code runs within an export. */
function endAll({ csvExports }: FastifyInstance): boolean[] {
  return csvExports.running().map(({ id }) => csvExports.end(id))
}

type Rows = Iterable<unknown[]> | AsyncIterable<unknown[]>

/** Downloads once. */
async function download(
  t: Test,
  http2: boolean,
  rows: (app: FastifyInstance) => Rows | (() => Rows),
  defaults: PluginOptions = {}
) {
  const receipts: Receipt[] = []
  const { app, url } = await serve(
    t,
    (app) =>
      app.get('/', (_request, reply) =>
        reply.csv(rows(app), {
          header: false,
          onReceipt: (receipt) => {
            receipts.push(receipt)
            endAll(app)
          }
        })
      ),
    { http2, defaults }
  )
  const { code, body } = await curl(...(http2 ? ['--http2-prior-knowledge'] : []), url)
  const running = app.csvExports.running()
  await app.close()
  t.notOk(process.getActiveResourcesInfo().includes('Timeout'), 'no timer is left')
  return { code, body, receipts, running }
}

const early: Record<string, (app: FastifyInstance) => Rows | (() => Rows)> = {
  *'a generator'(app) {
    endAll(app)
    yield ['never']
  },
  async *'an async generator'(app) {
    endAll(app)
    yield ['never']
  },
  async *'an async generator that never goes on'(app) {
    endAll(app)
    await new Promise(() => {})
    yield ['never']
  },
  'what opens the rows': (app) => () => {
    endAll(app)
    return [['never']]
  }
}

const late: Record<string, (app: FastifyInstance) => Rows> = {
  *'a generator'(app) {
    yield* [[large], [large]]
    endAll(app)
    yield ['last']
  },
  *'a generator that is done'(app) {
    yield* [[large], [large]]
    endAll(app)
  },
  async *'an async generator'(app) {
    yield [large]
    await turn()
    endAll(app)
    yield ['last']
  },
  async *'an async generator, in finally'(app) {
    try {
      yield [large]
      await turn()
    } finally {
      endAll(app)
      await turn()
      endAll(app)
    }
  }
}

for (const http2 of [false, true]) {
  const protocol = http2 ? 'HTTP/2' : 'HTTP/1.1'

  t.test(`an export whose own source ends it before the first byte: ${protocol}`, async (t) => {
    for (const [name, rows] of Object.entries(early)) {
      const { code, body, receipts, running } = await download(t, http2, rows)
      t.equal(code, 0, name)
      t.match(JSON.parse(body), { statusCode: 503, code: 'CSV_EXPORT_SERVER_ENDED' })
      t.match(receipts, [ended])
      t.same(running, [])
    }
  })

  t.test(`an export whose own source ends it after that: ${protocol}`, async (t) => {
    for (const [name, rows] of Object.entries(late)) {
      const { code, receipts, running } = await download(t, http2, rows)
      t.not(code, 0, name)
      t.match(receipts, [ended])
      t.same(running, [])
    }
  })

  t.test(`an export that a store or a listener ends when it is told of it: ${protocol}`, async (t) => {
    let app = undefined as unknown as FastifyInstance
    let opened = 0
    const end = () => void endAll(app)
    const byStore = await download(
      t,
      http2,
      (own) => {
        app = own
        return () => {
          opened++
          return []
        }
      },
      { receipts: { begin: end, put() {}, get: () => undefined } }
    )
    t.match(JSON.parse(byStore.body), { code: 'CSV_EXPORT_SERVER_ENDED' })
    t.match(byStore.receipts, [ended])
    t.equal(opened, 0, 'the source is not opened')
    for (const name of ['start', 'progress', 'end']) {
      subscribe(`fastify-csv-export:${name}`, end)
      const { code, body, receipts, running } = await download(t, http2, (own) => {
        app = own
        return [[large]]
      })
      unsubscribe(`fastify-csv-export:${name}`, end)
      if (name === 'start') t.match(JSON.parse(body), { code: 'CSV_EXPORT_SERVER_ENDED' })
      else t.equal(code === 0, name === 'end')
      t.match(receipts, [name === 'end' ? { status: 'complete' } : ended], name)
      t.same(running, [])
    }
  })

  t.test(`an end that comes as the export ends by itself: ${protocol}`, async (t) => {
    const statuses = new Set<string>()
    // Before all is sent, before Node says so, and after that.
    for (const [name, next] of Object.entries({ microtasks: queueMicrotask, ticks: process.nextTick }))
      for (let delay = 0; delay < 12; delay++) {
        const { code, body, receipts, running } = await download(t, http2, async function* (app) {
          yield ['only']
          const wait = (left: number): void => (left === 0 ? void endAll(app) : next(() => wait(left - 1)))
          wait(delay)
        })
        const isWhole = code === 0 && body === 'only\n'
        t.match(receipts, [isWhole ? { status: 'complete' } : ended], `after ${delay} ${name}`)
        t.equal(receipts.length, 1)
        t.same(running, [])
        statuses.add(`${code} ${receipts[0]?.status}`)
      }
    t.ok(statuses.size > 1, [...statuses].join())
  })
}
