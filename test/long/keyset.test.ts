import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { keysetPages } from '../../plugins/csv-export/index.ts'
import { cursorRows } from '../../plugins/pg/index.ts'
import { connect, startDatabase } from '../database.ts'
import { serve } from '../helper.ts'
import { checkPages } from '../plugins/csv-export/stream/changing-table.ts'
import { openPool } from '../plugins/pg/pools.ts'
import { scaled, scaledTimeout } from './scale.ts'

t.setTimeout(scaledTimeout(900_000))

const url = await startDatabase(t, { rows: 0 })
/** `KEYSET_SEED` repeats a round that failed, and those after it. */
const seed = Number(process.env.KEYSET_SEED ?? Math.floor(Math.random() * 2 ** 31))

t.test('of tables that change, each row that stands still comes once, and none twice', async (t) => {
  await checkPages(t, url, { rounds: scaled(1_000), seed })
  t.pass('no row was lost or doubled')
})

/** A client that reads so many bytes in a second, until it is let go. */
class SlowClient {
  static readonly pace = 50_000
  bytes = 0
  /** Resolves to the status. */
  readonly answered: Promise<number>
  /** Resolves when so much has come as it reads in two seconds. */
  readonly served: Promise<void>
  readonly #served = Promise.withResolvers<void>()
  readonly #unlimited = new AbortController()
  readonly #whole: Promise<boolean>

  constructor(address: string) {
    this.served = this.#served.promise
    const response = once(get(address, { agent: false }), 'response') as Promise<[IncomingMessage]>
    this.answered = response.then(([{ statusCode }]) => statusCode as number)
    this.#whole = response.then(([body]) => this.#read(body))
  }

  /** Reads the rest at once. @returns whether the body came to its end */
  finish(): Promise<boolean> {
    this.#unlimited.abort()
    return this.#whole
  }

  async #read(body: IncomingMessage): Promise<boolean> {
    const { signal } = this.#unlimited
    for await (const chunk of body) {
      this.bytes += chunk.length
      if (this.bytes > 2 * SlowClient.pace) this.#served.resolve()
      if (!signal.aborted) {
        await wait((1_000 * chunk.length) / SlowClient.pace, undefined, { signal }).catch(() => {})
      }
    }
    return body.complete
  }
}

/** More than what sockets hold, so that a slow client's export lasts. */
const rows = 8_000
const size = rows * (1_000 + 4 + 2)

t.test('50 clients at 50 kB/s, on a pool of 5 connections', async (t) => {
  const database = await connect(t, url)
  await database.query(
    `CREATE TABLE wide AS SELECT id, repeat('x', 1000) AS text FROM generate_series(1001, ${1_000 + rows}) id`
  )
  await database.query('ALTER TABLE wide ADD PRIMARY KEY (id)')
  const pool = openPool(t, url, { max: 5, connectionTimeoutMillis: 5_000 })
  const page =
    'SELECT id, text FROM wide WHERE ($1::integer IS NULL OR id > $1) AND id <= $2 ORDER BY id LIMIT $3'
  const { app, url: origin } = await serve(t, (app) => {
    app.get('/cursor.csv', (_request, reply) =>
      reply.csv(({ signal }) => cursorRows(pool, 'SELECT id, text FROM wide ORDER BY id', [], { signal }))
    )
    app.get('/pages.csv', (_request, reply) =>
      reply.csv(({ signal }) =>
        keysetPages(async ({ after, upTo, limit }) => (await pool.query(page, [after, upTo, limit])).rows, {
          key: 'id',
          bound: async () => (await pool.query('SELECT max(id) FROM wide')).rows[0].max,
          limit: 100,
          signal
        })
      )
    )
  })
  const start = (path: string) => Array.from({ length: 50 }, () => new SlowClient(origin + path))

  await t.test('by keysetPages() all of them are served at the same time', async (t) => {
    const clients = start('/pages.csv')
    await Promise.all(clients.map(({ served }) => served))
    t.equal(app.csvExports.running().length, 50, 'none has ended')
    t.ok(pool.totalCount <= 5)
    t.equal((await pool.query('SELECT 1')).rows.length, 1, 'there is a connection for anybody else')
    const ends = await Promise.all(clients.map((client) => client.finish()))
    t.strictSame([...new Set(ends)], [true])
    t.strictSame([...new Set(clients.map(({ bytes }) => bytes))], [size + 'id,text\n'.length])
  })

  await t.test('by cursorRows() 5 of them are, and no others', async (t) => {
    const clients = start('/cursor.csv')
    const statuses = await Promise.all(clients.map(({ answered }) => answered))
    const served = clients.filter((_client, index) => statuses[index] === 200)
    t.equal(served.length, 5)
    t.equal(statuses.filter((status) => status === 503).length, 45)
    t.equal(app.csvExports.running().length, 5)
    t.strictSame(await Promise.all(clients.map((client) => client.finish())), Array(50).fill(true))
    t.strictSame([...new Set(served.map(({ bytes }) => bytes))], [size + 'id,text\n'.length])
  })
})
