import closeWithGrace from 'close-with-grace'
import Fastify from 'fastify'
import { defineCargoReport } from './database/cargo-report.ts'
import postgres from './database/postgres.ts'
import csvExport from './plugins/csv-export/index.ts'
import csvRuns from './plugins/runs/index.ts'

// Makes the files of report runs. As many of these as there is work for, on any number of hosts.

const { DATABASE_URL: connectionString, CONCURRENCY = '1', HOST = 'localhost', PORT } = process.env
if (!connectionString) throw new Error('DATABASE_URL must name the database that the servers have')
const concurrency = Number(CONCURRENCY)

const app = Fastify({ logger: true })
// Milliseconds. What is under way is given to other workers at once.
closeWithGrace({ delay: 30_000 }, async ({ err }) => {
  if (err) app.log.error(err)
  await app.close()
})
await app.register(csvExport)
// Each run has one for its rows.
await app.register(postgres, { url: connectionString, maxConnections: concurrency })
await app.register(csvRuns, {
  connectionString,
  reports: [defineCargoReport(app.pg.pool)],
  owner: 'public',
  concurrency,
  routes: false
})
// For health checks alone.
app.get('/', () => 'a worker of report runs\n')
await app.ready()
if (PORT !== undefined) await app.listen({ host: HOST, port: Number(PORT) })
app.log.info('the worker waits for runs')
