import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import csvExport from '../../../plugins/csv-export/index.ts'
import csvRuns, { PostgresFiles } from '../../../plugins/runs/index.ts'
import { Queue } from '../../../plugins/runs/queue.ts'
import { openPool } from '../pg/pools.ts'
import { finishedRun, MemoryFiles, newSchema, numbers, serveRuns, startEmptyPostgres } from './runs.ts'

const connectionString = await startEmptyPostgres(t)
const database = openPool(t, connectionString)

/** A role of the database, and its connection string. */
async function newRole(t: Test, name: string): Promise<string> {
  await database.query(`CREATE ROLE ${name} LOGIN PASSWORD '${name}'`)
  t.teardown(() => database.query(`DROP OWNED BY ${name}; DROP ROLE ${name}`))
  return connectionString.replace(/\/\/.*@/, `//${name}:${name}@`)
}

t.test('a role that may make no schemas uses those that are made for it', async (t) => {
  const schema = newSchema()
  const reporter = await newRole(t, 'reporter')
  for (const name of [schema, `${schema}_queue`]) {
    await database.query(`CREATE SCHEMA ${name} AUTHORIZATION reporter`)
  }
  for (const start of ['first', 'second']) {
    await t.test(start, async (t) => {
      const files = new PostgresFiles({ pool: openPool(t, reporter), schema })
      const { url } = await serveRuns(t, { connectionString: reporter, schema, files })
      t.match(await finishedRun(url, 'numbers'), { state: 'succeeded' })
    })
  }
})

t.test('a server that does not start leaves no connection open', async (t) => {
  const schema = newSchema()
  const stranger = await newRole(t, 'stranger')
  await database.query(`CREATE SCHEMA ${schema} AUTHORIZATION stranger; CREATE SCHEMA ${schema}_queue`)
  class MissingFiles extends MemoryFiles {
    async prepare(): Promise<void> {
      throw new Error('there is no such volume')
    }
  }
  for (const [files, message] of [
    [new MissingFiles(), 'there is no such volume'],
    [new MemoryFiles(), `permission denied for schema ${schema}_queue`]
  ] as const) {
    const app = Fastify()
    app.register(csvExport)
    app.register(csvRuns, { connectionString: stranger, schema, files, reports: [numbers], owner: 'public' })
    await t.rejects(async () => await app.ready(), { message })
    await app.close()
    const open = "SELECT application_name FROM pg_stat_activity WHERE usename = 'stranger'"
    // The server hears of it a moment later.
    for (let left = 100; left > 0 && (await database.query(open)).rows.length > 0; left--) {
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    t.same((await database.query(open)).rows, [], message)
  }
})

t.test(
  'a process that listens is told of runs, whoever made the queues, and with what options',
  async (t) => {
    const schema = newSchema()
    const silent = await serveRuns(t, { connectionString, schema, notify: false, concurrency: 0 })
    await database.query(`UPDATE ${schema}_queue.queue SET notify = false, retry_limit = 1`)
    await serveRuns(t, { connectionString, schema })
    const { rows } = await database.query(
      `SELECT name, notify, retry_limit FROM ${schema}_queue.queue WHERE name LIKE 'csv-export.%' ORDER BY name`
    )
    t.same(rows, [
      { name: 'csv-export.finished', notify: true, retry_limit: 10 },
      { name: 'csv-export.lost', notify: true, retry_limit: 1_000 },
      { name: 'csv-export.runs', notify: true, retry_limit: 10 }
    ])
    t.match(await finishedRun(silent.url, 'numbers'), { state: 'succeeded' })
  }
)

t.test('how long a run is left goes by the clock of the database', async (t) => {
  const schema = newSchema()
  const queue = await Queue.start({
    pool: database,
    connectionString,
    name: 'skewed',
    schema,
    notify: false,
    pollingInterval: 1,
    closeGrace: 1_000,
    onError: () => {}
  })
  t.teardown(() => queue.stop())
  const { now } = Date
  Date.now = () => now() + 3_600_000
  t.teardown(() => Object.assign(Date, { now }))
  await queue.sendRunLater(randomUUID(), 10)
  const { rows } = await database.query(
    `SELECT extract(epoch FROM start_after - now())::float8 AS seconds FROM ${schema}.job WHERE name = 'skewed.runs'`
  )
  const [{ seconds }] = rows
  t.ok(seconds > 8 && seconds <= 20, `${seconds} s`)
})
