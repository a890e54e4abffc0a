import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import csvExport from './plugins/csv-export/index.ts'
import postgres from './plugins/postgres.ts'
import downloads from './routes/downloads.ts'
import imports from './routes/imports.ts'
import reports from './routes/reports.ts'

export interface AppOptions {
  /** As Fastify's own `logger`. @default false */
  logger?: FastifyServerOptions['logger']
  /** Connection string of a prepared database. Without one there are no reports and no imports. */
  databaseUrl?: string
}

/** The sample server, ready to listen or to inject into. */
export async function buildApp(options: AppOptions = {}): Promise<FastifyInstance> {
  const app = Fastify({ logger: options.logger ?? false, forceCloseConnections: true })
  await app.register(csvExport)
  await app.register(downloads)
  if (options.databaseUrl !== undefined) {
    await app.register(postgres, { url: options.databaseUrl })
    await app.register(reports)
    await app.register(imports)
  }
  return app
}
