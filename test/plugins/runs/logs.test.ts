import pg from 'pg'
import t from 'tap'
import { Log } from '../../helper.ts'
import { ask, finishedRun, MemoryFiles, serveRuns, startEmptyPostgres } from './runs.ts'

/** A log whose serializer expects other errors than those of the runs. */
function loggerOf(log: Log) {
  const err = (error: { response: { status: number } }) => ({ status: error.response.status })
  return { stream: log.stream, serializers: { err } }
}

t.test('a log serializer of errors that throws ends no process', async (t) => {
  const connectionString = await startEmptyPostgres(t)
  const files = new MemoryFiles()
  const log = new Log()
  const { url } = await serveRuns(t, { connectionString, files, server: { logger: loggerOf(log) } })
  const { id } = await finishedRun(url, 'numbers')

  files.discard = async () => {
    throw new Error('the disk is read-only')
  }
  t.equal((await ask(`${url}/runs/${id}`, { method: 'DELETE' })).status, 204)
  t.match(await log.find(/a file was not removed/), { level: 40, errorMessage: 'the disk is read-only' })

  const client = new pg.Client(connectionString)
  await client.connect()
  t.teardown(() => client.end())
  await client.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'fastify-csv-export runs'"
  )
  t.match(await log.find(/an idle connection of the runs was lost/), { errorMessage: /terminating/ })
  // The pool may still have one that has been ended.
  let status = 0
  while (status !== 200) ({ status } = await ask(`${url}/runs`))
  t.equal(status, 200, 'and goes on')
})
