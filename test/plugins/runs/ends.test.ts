import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import t from 'tap'
import { defineReport, type Report, type Run } from '../../../plugins/runs/index.ts'
import { gate } from '../../helper.ts'
import {
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

t.test('a run is given back before others close what it reads, or wait for its end', async (t) => {
  const schema = newSchema()
  const asked = gate<AbortSignal>()
  const report = defineReport({
    name: 'endless',
    version: 1,
    parameters: noParameters,
    async rows({ signal }) {
      asked.open(signal)
      await once(signal, 'abort')
      return []
    }
  })
  const { app, url } = await serveRuns(t, {
    connectionString,
    schema,
    reports: [report],
    // As a pool does whose connections are in use.
    after: (app) =>
      app.addHook('onClose', async () => void ((await asked.opened).aborted || t.fail('too late')))
  })
  const { body } = await post(url, 'endless')
  await asked.opened
  await app.close()
  const other = await serveRuns(t, { connectionString, schema, reports: [report], concurrency: 0 })
  t.match((await ask(`${other.url}/runs/${body.id}`)).body, { state: 'queued', attempt: 1 })
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
  const { url, log } = await serveRuns(t, {
    connectionString,
    files: new Stubborn(),
    reports: [failing, numbers]
  })
  t.match(await finishedRun(url, 'failing'), { state: 'failed', error: { code: 'RangeError' } })
  t.match(await log.find(/^a file was not removed$/), { level: 40, err: { message: 'not now' } })
  const { id } = await finishedRun(url, 'numbers')
  t.equal((await ask(`${url}/runs/${id}`, { method: 'DELETE' })).status, 204, 'its run is gone all the same')
  t.equal((await ask(`${url}/runs/${id}`)).status, 404)
})
