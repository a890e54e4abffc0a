import closeWithGrace from 'close-with-grace'
import Fastify from 'fastify'
import { defineCargoReport } from './database/cargo-report.ts'
import postgres from './database/postgres.ts'
import csvExport from './plugins/csv-export/index.ts'
import csvRuns from './plugins/runs/index.ts'

// Makes the files of report runs, and answers no requests. As many of these as there is work for, on any number of hosts.

const { DATABASE_URL: connectionString } = process.env
if (!connectionString) throw new Error('DATABASE_URL must name the database that the servers have')

const app = Fastify({ logger: true })
closeWithGrace({ delay: 30_000 }, async ({ err }) => {
  if (err) app.log.error(err)
  await app.close()
})
await app.register(csvExport)
await app.register(postgres, { url: connectionString })
await app.register(csvRuns, {
  connectionString,
  reports: [defineCargoReport(app.pg.pool)],
  owner: 'public',
  routes: false
})
await app.ready()
app.log.info('the worker waits for runs')
