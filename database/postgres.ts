import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import pg from 'pg'
import { DatabaseUnavailable } from './database-unavailable.ts'
import { copyOut, cursorBatches } from './postgres-rows.ts'

/** A row as PostgreSQL's own text: no digit of a numeric, bigint or timestamp is lost on the way to a file. */
export type TextRow = (string | null)[]

export interface PostgresOptions {
  /** Connection string of the database. */
  url: string
  /** Most connections open at a time: each running report or import holds one. @default 10 */
  maxConnections?: number
}

export interface BatchesOptions {
  /** Ends the query when it fires, at once, also on the server. */
  signal?: AbortSignal
  /** Rows fetched from the server at a time. @default 100 */
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
       * The rows of one statement, which sees one snapshot, in batches as a server-side cursor reads them.
       * The connection goes back to the pool on the last row, an error, `return()` or abort.
       * @example
       * reply.csv(({ signal }) => app.postgres.batches('SELECT id FROM cargoes WHERE id > $1', [10], { signal }), {
       *   batches: true
       * })
       */
      batches(text: string, values?: unknown[], options?: BatchesOptions): AsyncGenerator<TextRow[]>
      /**
       * A query's rows as CSV with a header line, as PostgreSQL's COPY makes it, which takes no parameters.
       * @example
       * reply.csv(({ signal }) => app.postgres.copy('SELECT * FROM cargoes', { signal }), { encoded: true })
       */
      copy(query: string, options?: { signal?: AbortSignal }): AsyncGenerator<Buffer>
    }
  }
}

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
  const cancellations = new Set<Promise<void>>()
  app.addHook('onClose', async () => {
    // A process that ended before would leave the statements running.
    await Promise.all(cancellations)
    await pool.end()
  })

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
      const cancellation = cancelBackend(config, processID)
        .catch((error) => app.log.warn({ err: error }, 'cannot cancel a query'))
        .finally(() => cancellations.delete(cancellation))
      cancellations.add(cancellation)
    }
  }

  async function* batches(
    text: string,
    values: unknown[] = [],
    { signal, batchSize = 100 }: BatchesOptions = {}
  ): AsyncGenerator<TextRow[]> {
    yield* cursorBatches(await lend(signal), { text, values, batchSize }, signal)
  }

  async function* copy(query: string, { signal }: { signal?: AbortSignal } = {}): AsyncGenerator<Buffer> {
    yield* copyOut(await lend(signal), query, signal)
  }

  app.decorate('postgres', { pool, lend, batches, copy })
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
