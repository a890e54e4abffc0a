import pg from 'pg'
import type { Test } from 'tap'

/** A pool of one connection, as a user makes it: one that is lost shows when the next one is waited for. */
export function openPool(t: Test, url: string, options: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'fastify-csv-export',
    max: 1,
    connectionTimeoutMillis: 10_000,
    ...options
  })
  pool.on('error', () => {})
  t.teardown(() => pool.end())
  return pool
}

export async function collect<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const row of rows) all.push(row)
  return all
}

/** The iterator as the types of the language have it: what it gives at once is made a promise. */
export function iterate<T>(rows: AsyncIterable<T>): Required<AsyncIterator<T>> {
  const iterator = rows[Symbol.asyncIterator]()
  return {
    next: async () => iterator.next(),
    return: async () => (iterator.return as () => Promise<IteratorResult<T>>)()
  } as Required<AsyncIterator<T>>
}

/** No connection is lost: the pool gives one that answers, and can be ended. */
export async function isUsable(t: Test, pool: pg.Pool): Promise<void> {
  t.strictSame((await pool.query({ text: 'SELECT 1', rowMode: 'array' })).rows, [[1]], 'the pool can be used')
  t.equal(pool.idleCount, pool.totalCount, 'each connection is back')
}

/** Waits, by the database's own word, until a statement is in a state there. */
export async function until(database: pg.Client, pattern: string, state: string): Promise<void> {
  const text = 'SELECT 1 FROM pg_stat_activity WHERE query LIKE $1 AND state = $2 AND pid <> pg_backend_pid()'
  while ((await database.query(text, [pattern, state])).rows.length === 0);
}

/** Waits until a statement runs there no longer. */
export async function untilOver(database: pg.Client, pattern: string): Promise<void> {
  const text =
    "SELECT 1 FROM pg_stat_activity WHERE query LIKE $1 AND state = 'active' AND pid <> pg_backend_pid()"
  while ((await database.query(text, [pattern])).rows.length > 0);
}

/** Waits until no connection of a pool is lent. */
export async function untilBack(pool: pg.Pool): Promise<void> {
  while (pool.idleCount < pool.totalCount) await new Promise((resolve) => setTimeout(resolve, 5))
}
