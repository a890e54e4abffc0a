import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import type { FastifyError, FastifyRequest } from 'fastify'
import pg from 'pg'
import t from 'tap'
import { defineReport, type Report, type Run } from '../../../plugins/runs/index.ts'
import { gate } from '../../helper.ts'
import {
  type Answer,
  ask,
  ended,
  finishedRun,
  heldReport,
  MemoryFiles,
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

const unknown = '00000000-0000-4000-8000-000000000000'
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

t.test('to others a run does not exist', async (t) => {
  const { report, asked, release } = heldReport()
  const { url } = await serveRuns(t, { connectionString, reports: [report, numbers] })
  const ended = await finishedRun(url, 'numbers', { user: 'ann', headers: { 'idempotency-key': 'k' } })
  const open = (await post(url, 'held', { user: 'ann' })).body
  await asked
  const fileId = ended.result?.href.split('/').at(-1)
  for (const id of [ended.id, open.id, ended.id.toUpperCase()]) {
    for (const [method, path] of [
      ['GET', ''],
      ['POST', '/cancel'],
      ['DELETE', ''],
      ['GET', '/result'],
      ['GET', `/files/${fileId}`],
      ['HEAD', `/files/${fileId}`]
    ] as const) {
      const theirs = await ask(`${url}/runs/${id}${path}`, {
        method,
        user: 'bob',
        headers: { prefer: 'wait=60' }
      })
      const nobodys = await ask(`${url}/runs/${unknown}${path}`, { method, user: 'bob' })
      t.equal(theirs.status, 404, `${method} ${path}`)
      t.same(
        theirs.body,
        method === 'HEAD' ? '' : { ...nobodys.body, message: nobodys.body.message.replace(unknown, id) }
      )
    }
  }
  t.same((await ask(`${url}/runs`, { user: 'bob' })).body, [])
  const own = await post(url, 'numbers', { user: 'bob', headers: { 'idempotency-key': 'k' } })
  t.not(own.body.id, ended.id)
  t.match((await ask(`${url}/runs/${ended.id}`, { user: 'ann' })).body, { state: 'succeeded' })
  release()
})

t.test('what is no owner is refused, not shared', async (t) => {
  const owners: Record<string, unknown> = {
    promise: Promise.resolve('ann'),
    empty: '',
    number: 7,
    nul: 'ann\0',
    half: 'ann\ud800'
  }
  const wrong = await serveRuns(t, {
    connectionString,
    owner: ({ headers }) => owners[String(headers.user)] as never,
    concurrency: 0
  })
  for (const user of [...Object.keys(owners), 'nobody']) {
    for (const answer of [
      await post(wrong.url, 'numbers', { user }),
      await ask(`${wrong.url}/runs`, { user })
    ]) {
      t.match(answer, { status: 500, body: { code: 'CSV_EXPORT_INVALID_OPTION', message: /option "owner"/ } })
    }
  }
  const unauthorized = Object.assign(new Error('who are you?'), { statusCode: 401 })
  const owner = ({ headers }: FastifyRequest) => {
    if (headers.user === 'late') return Promise.reject(unauthorized) as never
    if (headers.user === undefined) throw unauthorized
    return String(headers.user)
  }
  for (const thrown of ['text', { statusCode: 403 }, null, 5, Object.freeze(new Error('frozen'))]) {
    const owner = () => {
      throw thrown
    }
    const { url } = await serveRuns(t, { connectionString, owner, concurrency: 0 })
    const answer = await ask(`${url}/runs`)
    t.equal(answer.status, 500)
    t.match(answer.body.message, thrown instanceof Error ? thrown.message : String(thrown))
  }
  const handled = await serveRuns(t, {
    connectionString,
    concurrency: 0,
    before: (app) => {
      app.setErrorHandler((error: FastifyError, _request, reply) => void reply.code(418).send(error.message))
      app.addHook('onRequest', async ({ headers }) => {
        if (headers.user === undefined) throw 'nobody'
      })
    }
  })
  t.match(await ask(`${handled.url}/runs`), { status: 418, body: 'the source failed: nobody' })
  t.match(await ask(`${handled.url}/runs/${unknown}`, { user: 'ann' }), {
    status: 418,
    body: `there is no run ${unknown}`
  })
  const guarded = await serveRuns(t, { connectionString, owner, concurrency: 0 })
  const { id } = (await post(guarded.url, 'numbers', { user: 'ann' })).body
  for (const path of [id, unknown]) {
    const answer = await ask(`${guarded.url}/runs/${path}`)
    t.match(answer, { status: 401, body: { message: 'who are you?' } }, 'be there such a run or not')
    t.equal((await ask(`${guarded.url}/runs/${path}`, { user: 'late' })).status, 500)
  }
  const { url } = await serveRuns(t, { connectionString, owner: 'public' })
  const run = await finishedRun(url, 'numbers', { user: 'ann' })
  t.equal((await ask(`${url}/runs/${run.id}`, { user: 'bob' })).status, 200)
})

t.test('what ends a run is its error', async (t) => {
  const of = (name: string, rows: () => any, csv = {}) =>
    defineReport({ name, version: 1, parameters: noParameters, rows, csv })
  const forever = async function* () {
    for (;;) {
      yield { id: 1 }
      await new Promise(setImmediate)
    }
  }
  const failing = (thrown: unknown) =>
    function* () {
      yield { id: 1 }
      throw thrown
    }
  const { url } = await serveRuns(t, {
    connectionString,
    concurrency: 4,
    defaults: { maxRows: 1_000 },
    reports: [
      of('rows', forever),
      of('bytes', forever, { maxRows: 0, maxBytes: 1_000 }),
      of('duration', forever, { maxRows: 0, maxDuration: 50 }),
      of('code', failing(Object.assign(new Error('a\0b'), { code: 22012 }))),
      of('name', failing(new RangeError('too far'))),
      of('nothing', failing(null)),
      of('text', failing('text'))
    ]
  })
  const errors = {
    rows: { code: 'CSV_EXPORT_MAX_ROWS', message: /1000/ },
    bytes: { code: 'CSV_EXPORT_MAX_BYTES', message: /1000/ },
    duration: { code: 'CSV_EXPORT_MAX_DURATION', message: /50/ },
    code: { code: '22012', message: 'a\ufffdb' },
    name: { code: 'RangeError', message: 'too far' },
    nothing: { code: 'CSV_EXPORT_SOURCE_FAILED' },
    text: { code: 'CSV_EXPORT_SOURCE_FAILED', message: /text/ }
  }
  await Promise.all(
    Object.entries(errors).map(async ([name, error]) => {
      const run = await finishedRun(url, name)
      t.match(run, { state: 'failed', attempt: 1, error, result: null }, name)
      const { status, body } = await ask(`${url}/runs/${run.id}/result`)
      t.match({ status, body }, { status: 409, body: { message: new RegExp(String(run.error?.code)) } })
    })
  )
})

t.test('the limits of the registration hold for runs, unless a report has its own', async (t) => {
  const wide = { ...numbers, name: 'wide', csv: { maxBytes: 0 } }
  const reports = [numbers, wide]
  const of = async (options: object) => (await serveRuns(t, { connectionString, reports, ...options })).url
  for (const url of [
    await of({ maxBytes: 20 }),
    await of({ maxBytes: 1_000_000, defaults: { maxBytes: 20 } })
  ]) {
    const json = { count: 100 }
    t.match((await finishedRun(url, 'numbers', { json })).error, { code: 'CSV_EXPORT_MAX_BYTES' })
    t.match(await finishedRun(url, 'wide', { json }), { state: 'succeeded' })
  }
})

t.test('an owner has so many open runs, so many bytes are kept', async (t) => {
  const first = await serveRuns(t, { connectionString, concurrency: 0, maxOpenPerOwner: 2 })
  const { id } = (await post(first.url, 'numbers', { json: { count: 1 } })).body
  await post(first.url, 'numbers', { json: { count: 2 } })
  const refused = await post(first.url, 'numbers', { json: { count: 3 } })
  t.match(codeOf(refused), [429, 'CSV_EXPORT_TOO_MANY_RUNS'])
  t.equal(refused.headers.get('location'), null)
  t.equal((await post(first.url, 'numbers', { json: { count: 2 } })).status, 202, 'an open one is none more')
  t.equal((await post(first.url, 'numbers', { json: { count: 3 }, user: 'bob' })).status, 202)
  await ask(`${first.url}/runs/${id}/cancel`, { method: 'POST' })
  t.equal((await post(first.url, 'numbers', { json: { count: 3 } })).status, 202)

  const { url } = await serveRuns(t, { connectionString, maxBytesPerOwner: 100, maxBytesKept: 200 })
  const json = { count: 30 }
  const kept = await finishedRun(url, 'numbers', { json })
  t.match(codeOf(await post(url, 'numbers')), [429, 'CSV_EXPORT_TOO_MANY_BYTES_OF_OWNER'])
  t.equal((await finishedRun(url, 'numbers', { user: 'bob', json })).state, 'succeeded')
  t.match(codeOf(await post(url, 'numbers', { user: 'eve' })), [507, 'CSV_EXPORT_TOO_MANY_BYTES'])
  await ask(`${url}/runs/${kept.id}`, { method: 'DELETE' })
  t.equal((await finishedRun(url, 'numbers', { user: 'eve' })).state, 'succeeded')

  const unlimited = { maxOpenPerOwner: 0, maxBytesPerOwner: 0, maxBytesKept: 0 }
  const open = await serveRuns(t, { connectionString, ...unlimited })
  t.equal((await finishedRun(open.url, 'numbers', { json })).state, 'succeeded')
})

t.test('runs that were accepted while there was room end when there is none', async (t) => {
  const { report, asked, release } = heldReport()
  const growing = defineReport({
    name: 'growing',
    version: 1,
    parameters: noParameters,
    async *rows() {
      for (;;) {
        yield { text: 'x'.repeat(100_000) }
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
  })
  const { url } = await serveRuns(t, {
    connectionString,
    maxBytesKept: 200_000,
    reports: [report, growing, numbers]
  })
  const { id } = (await post(url, 'held')).body
  await asked
  const later = [await post(url, 'growing'), await post(url, 'numbers', { json: { count: 2 } })] as const
  release()
  t.equal((await ended(url, id)).state, 'succeeded')
  t.match((await ended(url, later[0].body.id)).error, { code: 'CSV_EXPORT_TOO_MANY_BYTES' })
  t.match((await ended(url, later[1].body.id)).state, 'succeeded', 'as the room of the other is free again')
})

t.test('a run that has ended is told of at least once, and again where that failed', async (t) => {
  const told: Run[] = []
  const again = gate<Run>()
  const schema = newSchema()
  // Another process, which has not been given the function, must not take the news for itself.
  const { url } = await serveRuns(t, { connectionString, schema, prefix: '/api' })
  const worker = await serveRuns(t, {
    connectionString,
    schema,
    prefix: '/api',
    routes: false,
    onFinished(run) {
      told.push(run)
      if (told.length === 1) throw new Error('the mail server is away')
      again.open(run)
    }
  })
  t.equal((await ask(`${worker.url}/api/runs`)).status, 404)
  const run = await finishedRun(`${url}/api`, 'numbers')
  t.same(await again.opened, run)
  t.same(told, [run, run])
  t.match(await worker.log.find(/^onFinished failed$/), {
    level: 50,
    run: { id: run.id },
    err: { message: 'the mail server is away' }
  })
})

t.test('a process that closes leaves what onFinished is about to another one', async (t) => {
  const schema = newSchema()
  const called = gate<Run>()
  const calledAgain = gate<Run>()
  const stuck = await serveRuns(t, {
    connectionString,
    schema,
    onFinished(run) {
      called.open(run)
      return new Promise(() => {})
    }
  })
  const run = await finishedRun(stuck.url, 'numbers')
  await called.opened
  const closedAt = performance.now()
  await stuck.app.close()
  const passed = performance.now() - closedAt
  t.ok(passed < 9_000, `closed after ${Math.round(passed)} ms`)
  await serveRuns(t, { connectionString, schema, onFinished: calledAgain.open })
  t.match(await calledAgain.opened, { id: run.id })
})

t.test('the log and the channels tell of runs', async (t) => {
  const told: [string, Run][] = []
  for (const name of ['queued', 'started', 'taken-over', 'finished']) {
    const onRun = (run: unknown) => void told.push([name, run as Run])
    subscribe(`fastify-csv-export:run-${name}`, onRun)
    t.teardown(() => unsubscribe(`fastify-csv-export:run-${name}`, onRun))
  }
  const { report, asked, release } = heldReport()
  const failing = defineReport({
    name: 'failing',
    version: 1,
    parameters: noParameters,
    rows() {
      throw new RangeError('no')
    }
  })
  const { url, log } = await serveRuns(t, { connectionString, reports: [report, failing, numbers] })
  const held = await post(url, 'held', { json: { key: 7 } })
  await asked
  await post(url, 'held', { json: { key: 7 } })
  const waiting = (await post(url, 'numbers')).body
  await ask(`${url}/runs/${waiting.id}/cancel`, { method: 'POST' })
  await ask(`${url}/runs/${waiting.id}/cancel`, { method: 'POST' })
  release()
  const succeeded = await ended(url, held.body.id)
  const failed = await finishedRun(url, 'failing')
  const of = (id: string) => told.filter(([, run]) => run.id === id)
  t.match(of(succeeded.id), [
    ['queued', { state: 'queued', attempt: 0, parameters: { key: 7 } }],
    ['started', { state: 'running', attempt: 1 }],
    ['finished', succeeded]
  ])
  t.equal(of(succeeded.id).length, 3)
  t.match(of(waiting.id), [['queued'], ['finished', { state: 'cancelled' }]])
  t.equal(of(waiting.id).length, 2)
  t.match(of(failed.id).at(-1), ['finished', { error: { code: 'RangeError' } }])
  for (const [message, run, level] of [
    ['run queued', { id: succeeded.id, report: 'held' }, 30],
    ['run started', { id: succeeded.id, attempt: 1 }, 30],
    ['run succeeded', { id: succeeded.id, result: { rows: 2 } }, 30],
    ['run cancelled', { id: waiting.id }, 30],
    ['run failed', { id: failed.id, error: { code: 'RangeError', message: 'no' } }, 40]
  ] as const) {
    t.match(await log.find(new RegExp(`^${message}$`)), { level, run }, message)
  }
  t.notMatch(JSON.stringify(log.lines), /"key":7/, 'no parameters in the log')
})

t.test('a report that another version of the service has changed, or does not know', async (t) => {
  const schema = newSchema()
  const files = new MemoryFiles()
  const of = async (reports: Report[], concurrency: number) =>
    (await serveRuns(t, { connectionString, schema, files, reports, concurrency })).url
  const waiting = await of([numbers], 0)
  const { id } = (await post(waiting, 'numbers')).body
  const newer = await of([{ ...numbers, version: 2 }], 1)
  t.match(await ended(newer, id), {
    state: 'failed',
    error: { code: 'CSV_EXPORT_REPORT_CHANGED', message: /1 to 2/ }
  })

  const run = await finishedRun(newer, 'numbers')
  const without = await of([], 0)
  const file = await ask(`${without}${run.result?.href}`)
  t.equal(file.body, 'id,label\n1,x\n2,x\n3,x\n', 'a server that has no such report sends its files')
  t.match(file.headers.get('content-disposition'), /export\.csv/)
})

t.test('a run of a newer version waits for a worker that knows it', async (t) => {
  const schema = newSchema()
  const newer = { connectionString, schema, reports: [{ ...numbers, version: 2 }] }
  const { url } = await serveRuns(t, { ...newer, concurrency: 0 })
  const older = await serveRuns(t, { connectionString, schema, routes: false })
  const { id } = (await post(url, 'numbers')).body
  t.match(await older.log.find(/^a run waits for a worker that knows its report$/), { run: { id } })
  // Else it may be the first to find the run again.
  await older.app.close()
  await serveRuns(t, { ...newer, routes: false })
  t.match(await ended(url, id), { state: 'succeeded', attempt: 1 })
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

t.test('of a very long message the run keeps the beginning', async (t) => {
  const failing = defineReport({
    name: 'failing',
    version: 1,
    parameters: noParameters,
    rows() {
      throw new RangeError('no'.repeat(1_000_000))
    }
  })
  const { url } = await serveRuns(t, { connectionString, reports: [failing] })
  t.equal((await finishedRun(url, 'failing')).error?.message, 'no'.repeat(500))
})

t.test('a file that cannot be removed is logged, and left to a sweep', async (t) => {
  class Stubborn extends MemoryFiles {
    override async discard(): Promise<void> {
      throw new Error('not now')
    }
  }
  const failing = defineReport({
    name: 'failing',
    version: 1,
    parameters: noParameters,
    rows() {
      throw new RangeError('no')
    }
  })
  const { url, log } = await serveRuns(t, { connectionString, files: new Stubborn(), reports: [failing] })
  t.match(await finishedRun(url, 'failing'), { state: 'failed', error: { code: 'RangeError' } })
  t.match(await log.find(/^a file was not removed$/), { level: 40, err: { message: 'not now' } })
})
