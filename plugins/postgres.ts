import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import pg from 'pg'
import Cursor from 'pg-cursor'

/** A row as PostgreSQL's own text: no digit of a numeric, bigint or timestamp is lost on the way to a file. */
export type TextRow = Record<string, string | null>

export interface PostgresOptions {
  /** Connection string of the database. */
  url: string
  /** Most connections open at a time: each running report or import holds one. @default 10 */
  maxConnections?: number
}

export interface RowsOptions {
  /** Ends the query when it fires, at once, also on the server. */
  signal?: AbortSignal
  /** Rows fetched from the server at a time. @default 500 */
  batchSize?: number
}

/** A connection of the pool, lent to one user. */
export interface Lease {
  client: pg.PoolClient
  /** Gives the connection back; with an error it is closed instead. Only the first call counts. */
  release(error?: Error): void
  /** Ends the statement that is running, on the server too, and closes the connection. */
  cancel(): void
}

declare module 'fastify' {
  interface FastifyInstance {
    postgres: {
      pool: pg.Pool
      /** Borrows a connection. @throws DatabaseUnavailable, or the reason of the signal */
      lend(signal?: AbortSignal): Promise<Lease>
      /**
       * The rows of one statement, which sees one snapshot, read through a server-side cursor.
       * The connection goes back to the pool on the last row, an error, `return()` or abort.
       * @throws DatabaseUnavailable, an error of the server's own, or the reason of the signal
       * @example
       * for await (const row of app.postgres.rows('SELECT id FROM cargoes WHERE id > $1', [10])) use(row.id)
       */
      rows(text: string, values?: unknown[], options?: RowsOptions): AsyncGenerator<TextRow>
    }
  }
}

/** No connection could be had, or it was lost: the database is down, or all connections stay busy. */
export class DatabaseUnavailable extends Error {
  statusCode = 503
  code = 'DATABASE_UNAVAILABLE'
  constructor(cause: unknown) {
    super('the database is not available: try again later', { cause })
  }
}

const asText = { getTypeParser: () => (value: string | null) => value } as unknown as pg.CustomTypesConfig

// The text of dates, times and floats depends on these, so no server's own settings may decide.
const textSettings = '-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=1'

async function postgres(app: FastifyInstance, { url, maxConnections = 10 }: PostgresOptions): Promise<void> {
  const config = {
    connectionString: url,
    options: textSettings,
    connectionTimeoutMillis: 10_000,
    application_name: 'fastify-csv-export'
  }
  const pool = new pg.Pool({ ...config, max: maxConnections })
  pool.on('error', (error) => app.log.warn({ err: error }, 'an idle database connection was lost'))
  app.addHook('onClose', () => pool.end())

  async function lend(signal?: AbortSignal): Promise<Lease> {
    const client = await connect(pool, signal)
    let released = false
    function release(error?: Error): void {
      if (released) return
      released = true
      client.off('error', release)
      client.release(error)
    }
    // A lost connection says so here, and perhaps nowhere else.
    client.on('error', release)
    return { client, release, cancel }

    function cancel(): void {
      if (released) return
      const { processID } = client as unknown as { processID: number }
      release(new Error('cancelled'))
      cancelBackend(config, processID).catch((error) => app.log.warn({ err: error }, 'cannot cancel a query'))
    }
  }

  async function* rows(
    text: string,
    values: unknown[] = [],
    { signal, batchSize = 500 }: RowsOptions = {}
  ): AsyncGenerator<TextRow> {
    const lease = await lend(signal)
    const cursor = lease.client.query(new Cursor<TextRow>(text, values, { types: asText }))
    let reading = false
    const onAbort = (): void => {
      if (reading) lease.cancel()
    }
    signal?.addEventListener('abort', onAbort)
    try {
      for (;;) {
        signal?.throwIfAborted()
        reading = true
        const batch = await read(lease.client, cursor, batchSize)
        reading = false
        if (batch.length === 0) return
        for (const row of batch) yield row
      }
    } catch (error) {
      lease.release(error as Error)
      if (signal?.aborted) throw signal.reason
      // What the server has not said itself is the network's, under one of many codes: EPIPE, ECONNRESET, or none.
      throw error instanceof pg.DatabaseError ? error : new DatabaseUnavailable(error)
    } finally {
      signal?.removeEventListener('abort', onAbort)
      // Should the connection be lost before the answer, the lease gives it back itself.
      cursor.close(() => lease.release())
    }
  }

  app.decorate('postgres', { pool, lend, rows })
}

/** A client of the pool, or the signal's reason at once: a client that comes later goes straight back. */
async function connect(pool: pg.Pool, signal?: AbortSignal): Promise<pg.PoolClient> {
  signal?.throwIfAborted()
  const connecting = pool.connect()
  const aborted = Promise.withResolvers<never>()
  const onAbort = (): void => aborted.reject(signal?.reason)
  signal?.addEventListener('abort', onAbort)
  try {
    return await Promise.race([connecting, aborted.promise])
  } catch (error) {
    if (!signal?.aborted) throw new DatabaseUnavailable(error)
    connecting.then(
      (client) => client.release(),
      () => {}
    )
    throw error
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}

/** The next rows. A cursor that has had its last one does not answer when the connection is lost just then. */
function read(client: pg.PoolClient, cursor: Cursor<TextRow>, count: number): Promise<TextRow[]> {
  return new Promise((resolve, reject) => {
    const onEnd = (): void => reject(new Error('the database connection was lost'))
    client.once('end', onEnd)
    cursor.read(count, (error, rows) => {
      client.off('end', onEnd)
      if (error) reject(error)
      else resolve(rows)
    })
  })
}

/** A closed socket alone does not stop a query: the server would notice only when it has rows to send. */
async function cancelBackend(config: pg.ClientConfig, processID: number): Promise<void> {
  const client = new pg.Client(config)
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query('SELECT pg_cancel_backend($1)', [processID])
  } finally {
    await client.end()
  }
}

export default fp(postgres, { fastify: '5.x', name: 'postgres' })
