import Fastify from 'fastify'
import pg from 'pg'
import csvExport from '../../plugins/csv-export/index.ts'
import { cursorRows } from '../../plugins/pg/index.ts'
import csvRuns, { defineReport } from '../../plugins/runs/index.ts'
import { migrations } from '../../plugins/runs/table/schema.ts'

// A web process or a worker of the long tests, on a database of theirs.
const [, , role, connectionString = ''] = process.argv

// As a release to come would have it.
if (process.env.MIGRATION !== undefined) migrations.push(process.env.MIGRATION)

const pool = new pg.Pool({
  connectionString,
  application_name: 'reports',
  max: 4,
  connectionTimeoutMillis: 5_000
})
pool.on('error', () => {})

/** Each salt gives another file. */
export const numbersSql = 'SELECT n, md5(n::text || $2) AS text FROM generate_series(1, $1) AS n ORDER BY n'

const numbers = defineReport<{ count: number; salt: string; version: number }>({
  name: 'numbers',
  version: Number(process.env.REPORT_VERSION ?? 1),
  parameters: {
    type: 'object',
    additionalProperties: false,
    properties: { count: { type: 'integer', minimum: 0 }, salt: { type: 'string' } },
    required: ['count', 'salt']
  },
  rows: ({ parameters: { count, salt }, signal }) => cursorRows(pool, numbersSql, [count, salt], { signal })
})

const app = Fastify({ logger: { level: 'info' }, forceCloseConnections: true })
await app.register(csvExport, { closeGrace: 0 })
await app.register(csvRuns, {
  connectionString,
  reports: [numbers],
  owner: ({ headers }) => String(headers['x-owner'] ?? 'nobody'),
  concurrency: role === 'web' ? 0 : Number(process.env.CONCURRENCY ?? 1),
  routes: role === 'web',
  notify: process.env.NOTIFY !== 'false',
  maxOpenPerOwner: 0
})
process.on('SIGTERM', async () => {
  await app.close()
  await pool.end()
})
await app.ready()
const url = role === 'web' && (await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT ?? 0) }))
console.log(JSON.stringify({ ready: process.pid, url }))
