import fastifyPostgres from '@fastify/postgres'
import Fastify from 'fastify'
import csvExport from '../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'
import { cursorRows } from '../plugins/pg/index.ts' // yours: from 'fastify-csv-export/pg'
import csvRuns, { defineReport } from '../plugins/runs/index.ts' // yours: from 'fastify-csv-export/runs'

const connectionString = process.env.DATABASE_URL as string
const app = Fastify({ logger: true })
await app.register(csvExport)
await app.register(fastifyPostgres, { connectionString, connectionTimeoutMillis: 5_000 })
app.pg.pool.on('error', (error) => app.log.warn(error))

const orders = defineReport({
  name: 'orders',
  version: 1,
  parameters: {
    type: 'object',
    additionalProperties: false,
    properties: { weight: { type: 'number', default: 0 } }
  },
  rows: ({ parameters, signal }) =>
    cursorRows(app.pg.pool, 'SELECT number, origin FROM cargoes WHERE weight > $1', [parameters.weight], {
      signal
    }),
  csv: { filename: 'orders.csv' }
})
await app.register(csvRuns, { connectionString, reports: [orders], owner: 'public' })

await app.listen({ port: Number(process.argv[2] ?? 3000) })
