import t from 'tap'
import { openPool } from '../pg/pools.ts'
import {
  ended,
  heldReport,
  MemoryFiles,
  newSchema,
  numbers,
  post,
  serveRuns,
  startEmptyPostgres
} from './runs.ts'

const connectionString = await startEmptyPostgres(t)
const database = openPool(t, connectionString)

t.test('a backlog drains without pauses, wherever in a process there is room', async (t) => {
  const schema = newSchema()
  const files = new MemoryFiles()
  const { report, asked, release } = heldReport()
  const shared = { connectionString, schema, files, reports: [report, numbers], maxOpenPerOwner: 0 }
  const { url } = await serveRuns(t, { ...shared, concurrency: 0 })
  await post(url, 'held')
  const ids: string[] = []
  for (let count = 0; count < 10; count++) ids.push((await post(url, 'numbers', { json: { count } })).body.id)
  await serveRuns(t, { ...shared, concurrency: 2 })
  await asked
  const runs = await Promise.all(ids.map((id) => ended(url, id)))
  const times = runs.map(({ startedAt }) => Date.parse(startedAt as string))
  const passed = Math.max(...times) - Math.min(...times)
  // A poll each would be 9,000.
  t.ok(passed < 4_500, `${passed} ms`)
  release()
})

t.test('a run waits for good for a process that makes it', async (t) => {
  const schema = newSchema()
  const { url } = await serveRuns(t, { connectionString, schema, concurrency: 0 })
  await post(url, 'numbers')
  const { rows } = await database.query(
    `SELECT keep_until > now() + interval '1 year' AS stays FROM ${schema}_queue.job WHERE name = 'csv-export.runs'`
  )
  t.same(rows, [{ stays: true }])
})
