import { EventEmitter, on } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { to as copyTo } from 'pg-copy-streams'
import type { Test } from 'tap'
import { type AppOptions, buildApp } from '../app.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../database/embedded-postgres.ts'
import { Log, type TestServer } from './helper.ts'
import { copyPreparedPostgres } from './prepared-postgres.ts'

/** A folder of the test's own, removed when it ends. */
export async function temporaryFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'csv-export-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

export interface TestPostgres extends EmbeddedPostgres {
  /** Resolves when it says that it is ready, once more. */
  readyAgain(): Promise<void>
}

/** A PostgreSQL of the test's own, with few sample cargoes. */
export async function startPostgres(t: Test, { rows = 20_000 } = {}): Promise<TestPostgres> {
  const log = new EventEmitter()
  const folder = await temporaryFolder(t)
  await copyPreparedPostgres(folder, rows)
  const postgres = await startEmbeddedPostgres({ folder, log: (line) => void log.emit('line', line) })
  t.teardown(postgres.stop)
  return Object.assign(postgres, {
    async readyAgain() {
      for await (const [line] of on(log, 'line')) {
        if (line.includes('ready to accept connections')) return
      }
    }
  })
}

/** The same, where its connection string is all that a test needs. */
export async function startDatabase(t: Test, options: { rows?: number } = {}): Promise<string> {
  return (await startPostgres(t, options)).url
}

/**
 * The sample server on a real socket.
 * @param runs further options of report runs
 */
export async function serveApp(
  t: Test,
  databaseUrl: string,
  runs: NonNullable<AppOptions['runs']> = {}
): Promise<TestServer> {
  const log = new Log()
  const app = await buildApp({ databaseUrl, closeGrace: 0, runs, logger: { stream: log.stream } })
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  return { app, url: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`, log }
}

/** A connection that is none of the app's own, to ask the database itself. */
export async function connect(t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, options: '-c TimeZone=UTC' })
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/**
 * Gives the app a report of millions of rows, of which no more than the sockets' buffers hold are sent ahead of a
 * client: it is still under way when the client has seen its first rows. `limit=20000` makes it short again.
 */
export async function makeReportBig(url: string, times = 50): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const big = `SELECT a.* FROM cargoes a, generate_series(1, ${times}) ORDER BY a.id`
  await client.query(`CREATE SCHEMA big; CREATE VIEW big.cargoes AS ${big}`)
  await client.query('ALTER ROLE postgres SET search_path = big, public')
  // A crash would take back what the embedded PostgreSQL has not written yet.
  await client.query('CHECKPOINT')
  await client.end()
}

/** What PostgreSQL itself makes of a query as CSV. */
export async function copyToCsv(client: pg.Client, query: string): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of client.query(copyTo(`COPY (${query}) TO STDOUT (FORMAT csv, HEADER)`))) {
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/**
 * Asks until no connection of the app does anything but wait for its next query: the server hears of a closed connection a
 * moment after the client closed it, and a cancellation of a query has a connection of its own.
 */
export async function untilNoneBusy(client: pg.Client): Promise<void> {
  const deadline = performance.now() + 30_000
  for (;;) {
    const { rows } = await client.query(
      "SELECT state, query FROM pg_stat_activity WHERE application_name = 'fastify-csv-export' AND state <> 'idle'"
    )
    if (rows.length === 0) return
    if (performance.now() > deadline) throw new Error(`still busy: ${JSON.stringify(rows)}`)
  }
}
