import type { FastifyBaseLogger, FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import pg from 'pg'
import { type Internals, internals } from '../csv-export/index.ts'
import { toCsvOptionsOf } from '../csv-export/options/options.ts'
import { openCsv } from '../csv-export/stream/to-csv.ts'
import { CSV_EXPORT_INVALID_OPTION } from './errors.ts'
import type { FileStore } from './files/files.ts'
import { PostgresFiles } from './files/postgres-files.ts'
import { Queue } from './queue.ts'
import type { Report } from './report.ts'
import { routes } from './routes/routes.ts'
import { toRun } from './routes/run-reply.ts'
import { type RunLimits, type RunRow, Runs } from './runs.ts'
import { Sweep } from './sweep.ts'
import { RunWatch } from './watch.ts'
import { Worker } from './worker.ts'

/** Times are in milliseconds; where it says so, 0 is no limit. */
export interface RunsOptions {
  /** Of the PostgreSQL that has the queue, the table of runs, and by default their files. */
  connectionString: string
  reports: readonly Report[]
  /** Whose a run is: who else asks for it gets a 404. `'public'` says that everybody may see every run. */
  owner: ((request: FastifyRequest) => string) | 'public'
  /** Runs that this process makes at a time; 0 for one that only takes requests. @default 1 */
  concurrency?: number
  /** Whether there are routes; a worker needs none. @default true */
  routes?: boolean
  /** @default a PostgresFiles in the same database */
  files?: FileStore
  /** Of the routes. @default '' */
  prefix?: string
  /** Schema of the tables; that of the queue is `<schema>_queue`. @default 'csv_export' */
  schema?: string
  /** Whether a connection listens for new runs; else they are found by polling alone, as behind PgBouncer. @default true */
  notify?: boolean
  /** How long a file is kept. @default 86400000 */
  keepFor?: number
  /** Most bytes of a file; 0 is no limit. @default 1073741824 */
  maxBytes?: number
  /** Most open runs of an owner; 0 is no limit. @default 10 */
  maxOpenPerOwner?: number
  /** Most bytes kept of an owner; 0 is no limit. @default 10737418240 */
  maxBytesPerOwner?: number
  /** Most bytes kept in all; 0 is no limit. @default 53687091200 */
  maxBytesKept?: number
  /** Called with each run that has ended, at least once, in a process that makes runs. What it throws has it called again. */
  onFinished?: (run: import('./routes/run-reply.ts').Run) => unknown
}

const defaults = {
  prefix: '',
  concurrency: 1,
  routes: true,
  schema: 'csv_export',
  notify: true,
  keepFor: 86_400_000,
  maxBytes: 1_073_741_824,
  maxOpenPerOwner: 10,
  maxBytesPerOwner: 10_737_418_240,
  maxBytesKept: 53_687_091_200
}

/** Milliseconds. */
const watchInterval = 300
const sweepInterval = 10_000
const forgetAfter = 7 * 86_400_000

async function csvRuns(app: FastifyInstance, options: RunsOptions): Promise<void> {
  const settings = { ...defaults, ...options }
  const { connectionString, owner, schema, concurrency, keepFor, maxBytes, onFinished, notify } = settings
  if (owner !== 'public' && typeof owner !== 'function') {
    throw new CSV_EXPORT_INVALID_OPTION('owner', "a function of the request, or 'public'", owner)
  }
  const server = (app as unknown as { [internals]: Internals })[internals]
  const reports = new Map(settings.reports.map((report) => [report.name, report]))
  const pool = openPool(connectionString, 'runs', 4, app.log)
  const downloads = openPool(connectionString, 'run downloads', 4, app.log)
  const runs = new Runs(pool, schema)
  await runs.prepare()
  const files = settings.files ?? new PostgresFiles({ pool, downloads, schema })
  await files.prepare?.()
  const queue = await Queue.start({
    connectionString,
    name: 'csv-export',
    schema: `${schema}_queue`,
    notify,
    pollingInterval: 1,
    onError: (err) => app.log.warn({ err }, 'the queue of the runs')
  })
  const watch = new RunWatch(runs, watchInterval, (err) => app.log.warn({ err }, 'runs cannot be watched'))
  const sweep = new Sweep({ runs, files, interval: sweepInterval, forgetAfter, log: app.log })
  const worker = new Worker({
    runs,
    files,
    queue,
    watch,
    reports,
    keepFor,
    log: app.log,
    open: ({ rows, csv }, { parameters, viewer }, signal) =>
      openCsv(
        (context) =>
          rows({ parameters, viewer: context.viewer, signal: AbortSignal.any([signal, context.signal]) }),
        { maxBytes, ...toCsvOptionsOf(csv), viewer, digest: true, flush: false } as object,
        toCsvOptionsOf(server.registered)
      ),
    onFinished: onFinished && ((run) => onFinished(toRun(run, settings.prefix)))
  })
  app.addHook('onReady', async () => {
    sweep.start()
    if (concurrency > 0) {
      await queue.work(concurrency, {
        run: worker.attempt,
        lost: worker.giveUp,
        finished: worker.tellFinished
      })
    }
  })
  app.addHook('onClose', async () => {
    await queue.rest()
    await worker.close()
    await queue.stop()
    await sweep.stop()
    await Promise.all([pool.end(), downloads.end()])
  })
  if (!settings.routes) return

  const limits: RunLimits = settings
  await app.register(routes, {
    prefix: settings.prefix,
    reports,
    owner: owner === 'public' ? () => 'public' : owner,
    runs,
    files,
    watch,
    internals: server,
    async create(report, ownerOf, parameters, viewer, idempotencyKey) {
      const { name, version } = report
      return await runs.create(
        { owner: ownerOf, report: name, version, parameters, viewer, idempotencyKey },
        limits,
        queue.sendRun
      )
    },
    async cancel(run: RunRow) {
      await runs.close(run.id, { state: 'cancelled' }, keepFor, queue.sendFinished)
    },
    async remove(run: RunRow) {
      await runs.delete(run.id)
      if (run.file_id !== null) await files.discard(run.file_id)
    }
  })
}

function openPool(connectionString: string, use: string, max: number, log: FastifyBaseLogger): pg.Pool {
  const pool = new pg.Pool({
    connectionString,
    application_name: `fastify-csv-export ${use}`,
    max,
    connectionTimeoutMillis: 5_000
  })
  // Without a listener, a connection that is lost while nobody uses it ends the process.
  pool.on('error', (err) => log.warn({ err }, 'an idle connection of the runs was lost'))
  return pool
}

export default fp(csvRuns, {
  fastify: '5.x',
  name: 'fastify-csv-export/runs',
  dependencies: ['fastify-csv-export']
})
export { DirectoryFiles, type DirectoryFilesOptions } from './files/directory-files.ts'
export type { FileStore, FileWriter } from './files/files.ts'
export { PostgresFiles, type PostgresFilesOptions } from './files/postgres-files.ts'
export { type S3Api, S3Files, type S3FilesOptions } from './files/s3-files.ts'
export { defineReport, type Report, type ReportContext, type ReportOptions } from './report.ts'
export type { Run } from './routes/run-reply.ts'
