import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import { type AppOptions, buildApp } from '../app.ts'
import csvExport, { type CsvOptions } from '../plugins/csv-export/index.ts'

/** The sample app, closed when the test ends. */
export async function build(t: Test, options: AppOptions = {}): Promise<FastifyInstance> {
  const app = await buildApp(options)
  t.teardown(() => app.close())
  return app
}
