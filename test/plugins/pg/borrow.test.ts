import pg from 'pg'
import t from 'tap'
import { borrow } from '../../../database/postgres.ts'
import { copyRows, cursorRows } from '../../../plugins/pg/index.ts'
import { transaction } from '../../../plugins/runs/table/transaction.ts'
import { startPostgres } from '../../database.ts'
import { collect, openPool } from './pools.ts'
import { relayed } from './relays.ts'

const { url } = await startPostgres(t, { rows: 0 })
const database = new pg.Client({ connectionString: url })
await database.connect()
t.teardown(() => database.end())

const uses: Record<string, (pool: pg.Pool) => Promise<unknown>> = {
  cursorRows: (pool) => collect(cursorRows(pool, 'SELECT 1')),
  copyRows: (pool) => collect(copyRows(pool, 'SELECT 1')),
  transaction: (pool) => transaction(pool, async () => {}),
  borrow: async (pool) => (await borrow(pool)).client.query('SELECT 1')
}

// Loaded when they are first needed, which here would be too late.
await Promise.all([import('pg-cursor'), import('pg-copy-streams')])

for (const [name, use] of Object.entries(uses)) {
  t.test(`a connection that ends as it passes to the next one fails that one alone: ${name}`, async (t) => {
    const relay = await relayed(t, url)
    const pool = openPool(t, relay.url)
    const { rows } = await pool.query('SELECT pg_backend_pid() AS pid')
    relay.hold()
    const both = Promise.allSettled([pool.query('SELECT 1 AS before'), use(pool)])
    const answered =
      "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = 'idle' AND query = 'SELECT 1 AS before'"
    while ((await database.query(answered, [rows[0].pid])).rows.length === 0);
    await database.query('SELECT pg_terminate_backend($1)', [rows[0].pid])
    const [before, next] = await both
    t.match(before, { status: 'fulfilled', value: { rows: [{ before: 1 }] } })
    t.match(next, {
      status: 'rejected',
      reason: { message: /terminating connection|not queryable|terminated/ }
    })
  })
}
