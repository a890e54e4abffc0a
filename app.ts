import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { defineCargoReport } from './database/cargo-report.ts'
import postgres from './database/postgres.ts'
import { PostgresReceipts } from './database/postgres-receipts.ts'
import csvExport, { MemoryReceipts, type PluginOptions } from './plugins/csv-export/index.ts'
import csvRuns, { type RunsOptions } from './plugins/runs/index.ts'
import commands from './routes/commands.ts'
import downloads from './routes/downloads.ts'
import exports, { type Receipts } from './routes/exports.ts'
import imports from './routes/imports.ts'
import index from './routes/index.ts'
import reports from './routes/reports.ts'
import streamed from './routes/streamed.ts'
import { checkQueryEncoding, validation } from './validation.ts'

export interface AppOptions {
  /** As Fastify's own `logger`. @default false */
  logger?: FastifyServerOptions['logger']
  /** Connection string of a prepared database. Without one there are no reports and no imports. */
  databaseUrl?: string
  /** Milliseconds that running downloads get to finish when the server closes. @default 5000 */
  closeGrace?: number | undefined
  /** Further options of report runs. */
  runs?: Partial<RunsOptions>
  /** Further options of the export plugin. */
  exports?: PluginOptions
}

/** The sample server, ready to listen or to inject into. */
export async function buildApp(options: AppOptions = {}): Promise<FastifyInstance> {
  const app = Fastify({ logger: options.logger ?? false, forceCloseConnections: true, ...validation })
  app.addHook('preValidation', checkQueryEncoding)
  const receipts = openReceipts(app, options.databaseUrl)
  await app.register(csvExport, { receipts, closeGrace: options.closeGrace, ...options.exports })
  await app.register(index)
  await app.register(exports, { receipts })
  await app.register(downloads)
  await app.register(streamed)
  await app.register(commands)
  if (options.databaseUrl !== undefined) {
    await app.register(postgres, { url: options.databaseUrl })
    await app.register(csvRuns, {
      connectionString: options.databaseUrl,
      reports: [defineCargoReport(app.pg.pool)],
      // Everybody sees everything here.
      owner: 'public',
      ...options.runs
    })
    await app.register(reports)
    await app.register(imports)
  }
  return app
}

/** Without a database, receipts are kept in memory alone. */
function openReceipts(app: FastifyInstance, url: string | undefined): Receipts {
  if (url === undefined) return new MemoryReceipts()
  const receipts = new PostgresReceipts({ url, log: app.log })
  // By then the last exports have ended: the plugin sees to it before.
  app.addHook('onClose', () => receipts.close())
  return receipts
}
