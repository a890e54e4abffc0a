import t from 'tap'
import { startPostgres } from '../../database.ts'
import { curl } from '../../helper.ts'
import { relayed } from '../pg/relays.ts'
import { ask, finishedRun, MemoryFiles, serveRuns, startEmptyPostgres } from './runs.ts'

t.test('while the database is away, to try again later is all that is said', async (t) => {
  const postgres = await startPostgres(t, { rows: 0 })
  const { url } = await serveRuns(t, { connectionString: postgres.url, concurrency: 0 })
  await postgres.stop()
  const id = '7b1e2c1a-58a5-4e4e-9d1e-0c8f1c2b3a4d'
  for (const path of ['/runs', `/runs/${id}`, `/runs/${id}/result`, `/runs/${id}/files/${id}`]) {
    const { body } = await curl('-i', url + path)
    t.match(body, /^HTTP\/1.1 503 /, path)
    t.match(body, /^retry-after: \d+\r$/im)
    t.match(body, /"code":"CSV_EXPORT_DATABASE_UNAVAILABLE"/)
    t.notMatch(body, /ECONNREFUSED|terminat/, 'nothing of the database itself')
  }
  t.match((await curl('-i', '-X', 'POST', `${url}/reports/numbers/runs`)).body, /^HTTP\/1.1 503 /)
  t.match((await curl('-i', `${url}/runs?limit=x`)).body, /^HTTP\/1.1 400 /, 'other errors stay as they are')
  t.match((await curl(`${url}/reports/numbers.csv`)).body, /^id,label\n1,x\n/, 'what needs no run is served')
})

t.test('a bucket that is away is not taken for the database', async (t) => {
  const connectionString = await startEmptyPostgres(t)
  const files = new MemoryFiles()
  const { url } = await serveRuns(t, { connectionString, files })
  const { result } = await finishedRun(url, 'numbers')
  files.read = () => {
    throw Object.assign(new Error('SlowDown'), { $fault: 'server', $metadata: { httpStatusCode: 503 } })
  }
  const { status, headers, body } = await ask(`${url}${result?.href}`)
  t.match(body, { statusCode: 503, code: 'CSV_EXPORT_FILES_UNAVAILABLE' })
  t.equal(status, 503)
  t.ok(headers.get('retry-after'))
})

t.test('a server closes though the database is silent', async (t) => {
  const relay = await relayed(t, (await startPostgres(t, { rows: 0 })).url)
  const { app, log } = await serveRuns(t, { connectionString: relay.url, concurrency: 0 })
  relay.hold()
  relay.swallow()
  await app.close()
  t.match(await log.find(/did not answer while the server closed/), { level: 40 })
  for (const socket of relay.sockets) socket.destroy()
})
