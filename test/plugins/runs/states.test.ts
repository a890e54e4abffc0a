import { once } from 'node:events'
import pg from 'pg'
import t from 'tap'
import { defineReport, type Run } from '../../../plugins/runs/index.ts'
import { gate } from '../../helper.ts'
import {
  type Answer,
  ask,
  finishedRun,
  heldReport,
  newSchema,
  numbers,
  post,
  serveRuns,
  startEmptyPostgres
} from './runs.ts'

const connectionString = await startEmptyPostgres(t)
const noParameters = { type: 'object', additionalProperties: false, properties: {} }
const database = new pg.Client({ connectionString })
await database.connect()
t.teardown(() => database.end())

const codeOf = ({ status, body }: Answer) => [status, body?.code]

t.test('the runs of an owner come in pages that new and deleted runs do not shift', async (t) => {
  const schema = newSchema()
  const { url } = await serveRuns(t, { connectionString, schema, concurrency: 0, maxOpenPerOwner: 0 })
  const ids: string[] = []
  for (let count = 0; count < 7; count++) {
    ids.unshift((await post(url, 'numbers', { json: { count } })).body.id)
    await post(url, 'numbers', { json: { count }, user: 'bob' })
  }
  const read = async (path: string) => {
    const { body, headers } = await ask(`${url}${path}`)
    const [, next] = /<(.*)>; rel="next"/.exec(headers.get('link') ?? '') ?? []
    return { found: body.map(({ id }: Run) => id), next }
  }
  t.same((await read('/runs')).found, ids)
  t.same(await read('/runs?limit=7'), { found: ids, next: undefined }, 'no page after the last one')

  // As of several servers.
  await database.query(`UPDATE ${schema}.runs SET created_at = date_trunc('second', created_at)`)
  const { found: sorted } = await read('/runs')
  const first = await read('/runs?limit=3')
  await post(url, 'numbers', { json: { count: 100 } })
  const end = first.found.at(-1)
  await ask(`${url}/runs/${end}/cancel`, { method: 'POST' })
  t.equal((await ask(`${url}/runs/${end}`, { method: 'DELETE' })).status, 204)
  const second = await read(first.next as string)
  const third = await read(second.next as string)
  t.same([...first.found, ...second.found, ...third.found], sorted)
  t.equal(third.next, undefined)
  for (const query of ['limit=0', 'limit=1001', 'before=x', `before=${ids[0]}`]) {
    t.equal((await ask(`${url}/runs?${query}`)).status, 400, query)
  }
})

t.test('a page ends where its runs have become too large for one', async (t) => {
  const { url } = await serveRuns(t, { connectionString, concurrency: 0, maxOpenPerOwner: 0 })
  const label = 'x'.repeat(600_000)
  for (let count = 0; count < 6; count++) await post(url, 'numbers', { json: { count, label } })
  const pages: number[][] = []
  for (let path: string | undefined = '/runs'; path !== undefined; ) {
    const { body, headers }: Answer = await ask(`${url}${path}`)
    pages.push(body.map(({ parameters }: { parameters: { count: number } }) => parameters.count))
    path = /<(.*)>; rel="next"/.exec(headers.get('link') ?? '')?.[1]
  }
  t.same(pages, [
    [5, 4],
    [3, 2],
    [1, 0]
  ])
})

t.test('who waits for a run hears of its end at once', async (t) => {
  const { report, asked, release } = heldReport()
  const { url } = await serveRuns(t, { connectionString, reports: [report] })
  const { body } = await post(url, 'held')
  t.match(codeOf(await ask(`${url}/runs/${body.id}/result`)), [503, 'CSV_EXPORT_RUN_OPEN'])
  await asked
  const waits = [
    ask(`${url}/runs/${body.id}`, { headers: { prefer: 'wait=300' } }),
    ask(`${url}/runs/${body.id}/result`, { headers: { prefer: 'wait="60"' } })
  ] as const
  const running = await ask(`${url}/runs/${body.id}`, { headers: { prefer: 'wait=soon' } })
  t.match(running.body, {
    state: 'running',
    attempt: 1,
    startedAt: /Z$/,
    finishedAt: null,
    result: null,
    error: null
  })
  t.equal(running.headers.get('retry-after'), '1')
  const brief = await ask(`${url}/runs/${body.id}`, { headers: { prefer: 'wait=1' } })
  t.equal(brief.body.state, 'running', 'as it is when the time is over')
  release()
  const [run, result] = await Promise.all(waits)
  t.match(run.body, {
    state: 'succeeded',
    progress: { rows: 2, bytes: 7 },
    finishedAt: /Z$/,
    expiresAt: /Z$/
  })
  t.equal(run.headers.get('preference-applied'), 'wait=60', 'no longer than that')
  t.equal(run.headers.get('retry-after'), null)
  t.equal(result.status, 303)
  t.equal(result.headers.get('location'), run.body.result.href)
  t.match(run.body.result, { rows: 2, bytes: 7, sha256: /^[0-9a-f]{64}$/ })
  t.equal((await ask(`${url}${run.body.result.href}`)).body, 'id\n1\n2\n')
})

t.test('nobody waits for a client that left, nor a closing server for those who wait', async (t) => {
  const sent = gate()
  const { app, url } = await serveRuns(t, {
    connectionString,
    concurrency: 0,
    before: (app) => app.addHook('onSend', async (request) => void (request.headers.leaves && sent.open()))
  })
  const { body } = await post(url, 'numbers')
  const controller = new AbortController()
  const begun = once(app.server, 'request')
  const left = ask(`${url}/runs/${body.id}`, {
    headers: { prefer: 'wait=60', leaves: 'soon' },
    signal: controller.signal
  })
  await begun
  // Until the run has been looked up, and some of the looks for its end.
  await ask(`${url}/runs/${body.id}`, { headers: { prefer: 'wait=1' } })
  controller.abort()
  await t.rejects(left, { name: 'AbortError' })
  await sent.opened

  const waits = once(app.server, 'request')
  const waiting = ask(`${url}/runs/${body.id}`, { headers: { prefer: 'wait=60' } })
  await waits
  await ask(`${url}/runs/${body.id}`)
  const before = performance.now()
  await app.close()
  t.ok(performance.now() - before < 5_000)
  t.match(await waiting, { status: 200, body: { state: 'queued' } })
})

t.test('a run is cancelled while it waits and while it is made, and deleted once it has ended', async (t) => {
  const { report, asked, release } = heldReport()
  const stuck = defineReport({
    name: 'stuck',
    version: 1,
    parameters: noParameters,
    rows: () => new Promise<never>(() => {})
  })
  const { url } = await serveRuns(t, { connectionString, reports: [report, stuck, numbers] })
  const queuedBehind = await post(url, 'held')
  const signal = await asked
  const queued = (await post(url, 'numbers')).body
  const act = (id: string, method: string, path = '') => ask(`${url}/runs/${id}${path}`, { method })
  for (const { id } of [queued, queuedBehind.body]) {
    t.match(codeOf(await act(id, 'DELETE')), [409, 'CSV_EXPORT_RUN_IS_OPEN'])
  }
  const cancelled = await act(queued.id, 'POST', '/cancel')
  t.match(cancelled, {
    status: 200,
    body: {
      state: 'cancelled',
      startedAt: null,
      finishedAt: /Z$/,
      result: null,
      error: { code: 'CSV_EXPORT_RUN_CANCELLED' }
    }
  })
  t.match(codeOf(await act(queued.id, 'GET', '/result')), [409, 'CSV_EXPORT_RUN_NOT_SUCCEEDED'])

  await act(queuedBehind.body.id, 'POST', '/cancel')
  if (!signal.aborted) await once(signal, 'abort')
  t.match(signal.reason, { code: 'CSV_EXPORT_RUN_CANCELLED' })
  release()
  const next = await post(url, 'stuck')
  while ((await act(next.body.id, 'GET')).body.state !== 'running') await new Promise(setImmediate)
  t.match((await act(next.body.id, 'POST', '/cancel')).body, { state: 'cancelled', attempt: 1 })

  const run = await finishedRun(url, 'numbers')
  t.same((await act(run.id, 'POST', '/cancel')).body, run, 'that has ended before')
  for (const { id } of [run, queued, next.body]) {
    t.equal((await act(id, 'DELETE')).status, 204)
    t.match(codeOf(await act(id, 'DELETE')), [404, 'CSV_EXPORT_UNKNOWN_RUN'])
  }
  t.equal((await ask(`${url}${run.result?.href}`)).status, 404)
})

t.test('a key whose run is just deleted is free again', async (t) => {
  const schema = newSchema()
  const { url } = await serveRuns(t, { connectionString, schema, concurrency: 0 })
  const headers = { 'idempotency-key': 'k' }
  const { id } = (await post(url, 'numbers', { headers })).body
  const other = new pg.Client({ connectionString })
  await other.connect()
  t.teardown(() => other.end())
  await other.query(`BEGIN; DELETE FROM ${schema}.runs`)
  const again = post(url, 'numbers', { headers })
  const waiting = `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%${schema}%'`
  while ((await database.query(waiting)).rowCount === 0) await new Promise(setImmediate)
  await other.query('COMMIT')
  const { status, body } = await again
  t.equal(status, 202)
  t.not(body.id, id)
})

t.test('who waits for a run that is removed hears of it', async (t) => {
  const schema = newSchema()
  const { app, url } = await serveRuns(t, { connectionString, schema, concurrency: 0 })
  const { id } = (await post(url, 'numbers')).body
  const begun = once(app.server, 'request')
  const waiting = ask(`${url}/runs/${id}`, { headers: { prefer: 'wait=60' } })
  await begun
  await ask(`${url}/runs`)
  await database.query(`DELETE FROM ${schema}.runs`)
  t.match(codeOf(await waiting), [404, 'CSV_EXPORT_UNKNOWN_RUN'])
})

t.test('a database that goes away for a moment is logged, and waited for', async (t) => {
  const schema = newSchema()
  const { app, url, log } = await serveRuns(t, { connectionString, schema, concurrency: 0 })
  const { id } = (await post(url, 'numbers')).body
  await database.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'fastify-csv-export %'"
  )
  await log.find(/^an idle connection of the runs was lost$/)
  await log.find(/^the queue of the runs$/)
  const begun = once(app.server, 'request')
  const waiting = ask(`${url}/runs/${id}`, { headers: { prefer: 'wait=60' } })
  await begun
  // By then it has been looked up.
  await ask(`${url}/runs/${id}`, { headers: { prefer: 'wait=1' } })
  await database.query(`ALTER TABLE ${schema}.runs RENAME TO away`)
  t.match(await log.find(/^runs cannot be watched$/), { level: 40, err: { code: '42P01' } })
  await database.query(`ALTER TABLE ${schema}.away RENAME TO runs`)
  await ask(`${url}/runs/${id}/cancel`, { method: 'POST' })
  t.match((await waiting).body, { state: 'cancelled' })
})
