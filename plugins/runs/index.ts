import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import pg from 'pg'
import { logSafely } from '../csv-export/guard.ts'
import { type Internals, internals } from '../csv-export/internals.ts'
import { refusal } from '../csv-export/options/option.ts'
import { csvDefaults, toCsvOptionsOf } from '../csv-export/options/options.ts'
import { checkSettings, settler } from '../csv-export/options/settings.ts'
import { openCsv } from '../csv-export/stream/to-csv.ts'
import { isSettled } from '../pg/settled.ts'
import { discard } from './files/discard.ts'
import { PostgresFiles } from './files/postgres-files.ts'
import { checkRunsOptions, ownerOf, pathPrefix, type RunsOptions, settingsOf } from './options.ts'
import { Queue } from './queue.ts'
import { type RoutesOptions, routes } from './routes/routes.ts'
import { toRun } from './routes/run-reply.ts'
import { RunEvents } from './run-events.ts'
import { Sweep } from './sweep.ts'
import { RunRequests } from './table/run-requests.ts'
import { Runs } from './table/runs.ts'
import { RunWatch } from './watch.ts'
import { Worker } from './worker.ts'

/** Milliseconds. */
const watchInterval = 300
const sweepInterval = 10_000
const closeGrace = 5_000
const forgetAfter = 7 * 86_400_000

async function csvRuns(app: FastifyInstance, options: RunsOptions): Promise<void> {
  checkRunsOptions(options)
  const settings = settingsOf(options)
  const { connectionString, schema, concurrency, keepFor, maxBytes, onFinished, notify } = settings
  const server = (app as unknown as { [internals]: Internals })[internals]
  const settle = settler(csvDefaults, server.registered)
  for (const { csv } of settings.reports) checkSettings(settle(csv))
  const reports = new Map(settings.reports.map((report) => [report.name, report]))
  const prefix = `${app.prefix.replace(/\/$/, '')}${settings.prefix}`
  if (!pathPrefix.accepts(prefix)) throw refusal('prefix', pathPrefix.expected, prefix)
  const pool = openPool(app, connectionString, 'runs', 4)
  const downloads = openPool(app, connectionString, 'run downloads', 4)
  const runs = new Runs(pool, schema)
  const requests = new RunRequests(pool, schema, runs)
  await runs.prepare()
  const files = settings.files ?? new PostgresFiles({ pool, downloads, schema })
  await files.prepare?.()
  const queue = await Queue.start({
    pool,
    connectionString,
    name: 'csv-export',
    schema: `${schema}_queue`,
    notify,
    pollingInterval: 1,
    closeGrace,
    onError: (err) => logSafely(app.log, 'warn', { err }, 'the queue of the runs')
  })
  const watch = new RunWatch(runs, watchInterval, (err) =>
    logSafely(app.log, 'warn', { err }, 'runs cannot be watched')
  )
  const events = new RunEvents(app.log, prefix, watch)
  const sweep = new Sweep({ runs, files, interval: sweepInterval, closeGrace, forgetAfter, log: app.log })
  const worker = new Worker({
    runs,
    files,
    queue,
    watch,
    reports,
    keepFor,
    limits: settings,
    events,
    log: app.log,
    open: ({ rows, csv }, { parameters, viewer }, signal) =>
      openCsv(
        (context) =>
          rows({ parameters, viewer: context.viewer, signal: AbortSignal.any([signal, context.signal]) }),
        { ...toCsvOptionsOf(csv), viewer, digest: true, flush: false } as object,
        { maxBytes, ...toCsvOptionsOf(server.registered) }
      ),
    onFinished: onFinished && ((run) => onFinished(toRun(run, prefix)))
  })
  app.addHook('onReady', async () => {
    sweep.start()
    if (concurrency > 0) {
      await queue.work(concurrency, {
        run: worker.attempt,
        lost: worker.giveUp,
        // Another process may have been given the function.
        finished: onFinished && worker.tellFinished
      })
    }
  })
  // First, as others close what its rows read, or wait for who reads it.
  app.addHook('preClose', async () => {
    await queue.rest()
    worker.close()
  })
  app.addHook('onClose', async () => {
    // It waits for its own look into the database, too.
    const [isStopped] = await Promise.all([isSettled(queue.stop(), closeGrace + 1_000), sweep.stop()])
    if (!isStopped) {
      logSafely(app.log, 'warn', {}, 'the database of the runs did not answer while the server closed')
    }
  })
  if (!settings.routes) return

  await app.register(routes, {
    prefix: settings.prefix,
    pathPrefix: prefix,
    reports,
    owner: (request) => ownerOf(settings, request),
    runs,
    files,
    watch,
    internals: server,
    async create(report, owner, parameters, viewer, idempotencyKey) {
      const { name, version } = report
      const request = { owner, report: name, version, parameters, viewer, idempotencyKey }
      const { run, isNew } = await requests.create(request, settings, queue.sendRun)
      if (isNew) events.tell('queued', run)
      return run
    },
    async cancel({ id }) {
      events.tellFinished(await runs.close(id, { state: 'cancelled' }, keepFor, queue.sendFinished))
    },
    async remove({ id, file_id }) {
      await runs.delete(id)
      if (file_id !== null) await discard(files, file_id, app.log)
    }
  } satisfies RoutesOptions & { prefix: string })
}

/** Ended when all that uses it has been, and also where the plugin does not come to its end. */
function openPool(app: FastifyInstance, connectionString: string, use: string, max: number): pg.Pool {
  const pool = new pg.Pool({
    connectionString,
    application_name: `fastify-csv-export ${use}`,
    max,
    connectionTimeoutMillis: 5_000
  })
  // Without a listener, a connection that is lost while nobody uses it ends the process.
  pool.on('error', (err) => logSafely(app.log, 'warn', { err }, 'an idle connection of the runs was lost'))
  app.addHook('onClose', async () => {
    await isSettled(pool.end(), 1_000)
  })
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
export type { RunsOptions } from './options.ts'
export {
  type DefineTypedReport,
  defineReport,
  type Report,
  type ReportContext,
  type ReportOptions
} from './report.ts'
export type { Run } from './routes/run-reply.ts'
