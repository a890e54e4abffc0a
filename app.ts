import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import csvExport from './plugins/csv-export/index.ts'
import downloads from './routes/downloads.ts'

export interface AppOptions {
  /** As Fastify's own `logger`. @default false */
  logger?: FastifyServerOptions['logger']
}

/** The sample server, ready to listen or to inject into. */
export async function buildApp(options: AppOptions = {}): Promise<FastifyInstance> {
  const app = Fastify({ logger: options.logger ?? false })
  await app.register(csvExport)
  await app.register(downloads)
  return app
}
