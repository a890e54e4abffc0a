import Fastify from 'fastify'
import csvExport from '../../plugins/csv-export/index.ts'
import csvRuns, { defineReport } from '../../plugins/runs/index.ts'
import { migrations } from '../../plugins/runs/table/schema.ts'

// Starts several servers at once, and closes them: an error ends the process with 1.
const [, , connectionString = '', count, migration] = process.argv
if (migration !== undefined) migrations.push(migration)

const nothing = defineReport({ name: 'nothing', version: 1, parameters: { type: 'object' }, rows: () => [] })

async function start(): Promise<void> {
  const app = Fastify()
  await app.register(csvExport)
  await app.register(csvRuns, { connectionString, reports: [nothing], owner: 'public', routes: false })
  await app.ready()
  await app.close()
}

await Promise.all(Array.from({ length: Number(count) }, start))
