import type pg from 'pg'
import { borrow } from '../../pg/borrow.ts'

/** Held while tables are made or dropped, by one process at a time: `IF NOT EXISTS` is no help against another one. */
export const lockTables = 'SELECT pg_advisory_xact_lock(4203)'

/** Longest that a transaction waits for its process, which may be stopped or out of reach, and holds locks of others' until then. */
const idleTimeout = '10s'

/**
 * Runs it in a transaction on a connection of its own, which it gives back at its end. Each statement sees what others have
 * committed before it, whatever the database's default is: what waits for a lock relies on it.
 */
export async function transaction<T>(pool: pg.Pool, work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
  let failure: Error | undefined
  // A connection that is lost between two statements says so here alone.
  const onError = (error: Error): void => {
    failure = error
  }
  const client = await borrow(pool, onError)
  const rollBack = async (error: unknown): Promise<never> => {
    await client.query('ROLLBACK').catch(onError)
    throw error
  }
  try {
    return await commit(client, work).catch(rollBack)
  } finally {
    client.off('error', onError)
    client.release(failure)
  }
}

async function commit<T>(client: pg.ClientBase, work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
  // What is said to be done must outlive a crash, also where the database is set to be quicker than that.
  await client.query(`
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL synchronous_commit TO on;
    SET LOCAL idle_in_transaction_session_timeout TO '${idleTimeout}'`)
  const result = await work(client)
  await client.query('COMMIT')
  return result
}

/**
 * Runs those of the steps that have not been run yet.
 * @param table keeps which have
 */
export async function migrate(
  pool: pg.Pool,
  schema: string,
  table: string,
  steps: readonly string[]
): Promise<void> {
  await transaction(pool, async (client) => {
    await ensureSchema(client, schema)
    await client.query(`SET LOCAL search_path = ${schema}`)
    await client.query(`CREATE TABLE IF NOT EXISTS ${table} (version integer PRIMARY KEY)`)
    const { rows } = await client.query(`SELECT coalesce(max(version), 0) AS version FROM ${table}`)
    for (const [index, step] of steps.entries()) {
      if (index < rows[0].version) continue
      await client.query(step)
      await client.query(`INSERT INTO ${table} VALUES ($1)`, [index + 1])
    }
  })
}

/**
 * Makes a schema that is missing. Only then does it take the right to: `IF NOT EXISTS` asks for that first. Other processes
 * wait until the end of the transaction.
 */
export async function ensureSchema(client: pg.ClientBase, schema: string): Promise<void> {
  await client.query(lockTables)
  const { rows } = await client.query('SELECT to_regnamespace($1) IS NULL AS missing', [schema])
  if (rows[0].missing) await client.query(`CREATE SCHEMA ${schema}`)
}
