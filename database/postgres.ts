import fastifyPostgres from '@fastify/postgres'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type pg from 'pg'
import { DatabaseUnavailable } from './database-unavailable.ts'

export interface PostgresOptions {
  /** Connection string of the database. */
  url: string
  /** Most connections open at a time: each running report or import holds one. @default 10 */
  maxConnections?: number
}

/** The pool of connections, as `app.pg`. */
async function postgres(app: FastifyInstance, { url, maxConnections = 10 }: PostgresOptions): Promise<void> {
  await app.register(fastifyPostgres, {
    connectionString: url,
    max: maxConnections,
    // Less than `commitAfter`: where all stay busy, the reply is still a 503.
    connectionTimeoutMillis: 5_000,
    application_name: 'fastify-csv-export'
  })
  // Without a listener, a connection that is lost while nobody uses it ends the process.
  app.pg.pool.on('error', (error) => app.log.warn({ err: error }, 'an idle database connection was lost'))
}

/** A connection of the pool, lent to one user. */
export interface Loan {
  client: pg.PoolClient
  /** Gives the connection back; with an error it is closed instead. Only the first call counts. */
  release(error?: Error): void
}

/** @throws DatabaseUnavailable */
export function borrow(pool: pg.Pool): Promise<Loan> {
  return new Promise((resolve, reject) => {
    // Not by its promise: who is lent a connection that ends in the same packet must listen to it by then.
    pool.connect((error, client) => {
      if (client === undefined) return reject(new DatabaseUnavailable(error))
      let released = false
      const release = (failure?: Error): void => {
        if (released) return
        released = true
        client.off('error', release)
        client.release(failure)
      }
      // A lost connection says so here, and perhaps nowhere else.
      client.on('error', release)
      resolve({ client, release })
    })
  })
}

export default fp(postgres, { fastify: '5.x', name: 'postgres' })
