import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import csvExport from './plugins/csv-export/index.ts'
import commands from './routes/commands.ts'
import downloads from './routes/downloads.ts'
import index from './routes/index.ts'
import streamed from './routes/streamed.ts'
import { validation } from './validation.ts'

export interface AppOptions {
  /** As Fastify's own `logger`. @default false */
  logger?: FastifyServerOptions['logger']
}

/** The sample server, ready to listen or to inject into. */
export async function buildApp(options: AppOptions = {}): Promise<FastifyInstance> {
  const app = Fastify({ logger: options.logger ?? false, ...validation })
  await app.register(csvExport)
  await app.register(index)
  await app.register(downloads)
  await app.register(streamed)
  await app.register(commands)
  return app
}
