import { randomUUID } from 'node:crypto'
import t from 'tap'
import { openCsv } from '../../../plugins/csv-export/stream/to-csv.ts'
import { defineReport, type FileStore, type Report } from '../../../plugins/runs/index.ts'
import { RunEvents } from '../../../plugins/runs/run-events.ts'
import { Sweep } from '../../../plugins/runs/sweep.ts'
import { RunRequests } from '../../../plugins/runs/table/run-requests.ts'
import { type RunRow, Runs } from '../../../plugins/runs/table/runs.ts'
import { isTransient } from '../../../plugins/runs/transient.ts'
import { RunWatch } from '../../../plugins/runs/watch.ts'
import { Worker } from '../../../plugins/runs/worker.ts'
import { gate, Log } from '../../helper.ts'
import { openPool } from '../pg/pools.ts'
import { MemoryFiles, newSchema, startEmptyPostgres } from './runs.ts'

const pool = openPool(t, await startEmptyPostgres(t), { max: 10 })

const limits = { maxOpenPerOwner: 0, maxBytesPerOwner: 0, maxBytesKept: 0 }
const quietly = async () => {}

const requestsOf = new WeakMap<Runs, RunRequests>()

async function openRuns(schema = newSchema()): Promise<Runs> {
  const runs = new Runs(pool, schema)
  await runs.prepare()
  requestsOf.set(runs, new RunRequests(pool, schema, runs))
  return runs
}

async function newRun(runs: Runs, report = 'x', version = 1): Promise<RunRow> {
  const request = { owner: 'ann', report, version, parameters: {}, viewer: undefined }
  const requests = requestsOf.get(runs) as RunRequests
  return (await requests.create(request, limits, quietly)).run
}

t.test('an attempt that has lost its claim changes nothing', async (t) => {
  const runs = await openRuns()
  const { id } = await newRun(runs)
  const first = await runs.claim(id, randomUUID())
  const lost = first?.run as RunRow
  t.equal(first?.lostFile, null)
  const second = await runs.claim(id, randomUUID())
  const claimed = second?.run as RunRow
  t.equal(second?.lostFile, lost.file_id)
  t.match(claimed, { state: 'running', attempt: 2, started_at: lost.started_at })
  t.same([await runs.isClaimed(lost), await runs.isClaimed(claimed)], [false, true])
  const code = 'CSV_EXPORT_CLAIM_LOST'
  await t.rejects(runs.setProgress(lost, 1, 1), { code })
  const end = { state: 'failed', code: 'E', message: 'e' } as const
  await t.rejects(
    runs.finish(lost, end, 1_000, async () => void t.fail('told of')),
    { code }
  )
  await runs.release(lost, async () => void t.fail('queued'))
  t.same(await runs.get(id), claimed)

  await runs.setProgress(claimed, 5, 50)
  t.match(await runs.get(id), { rows: 5, bytes: 50 })
  t.same(
    await runs.lookAt([id, randomUUID()]),
    [{ id, state: 'running', file_id: claimed.file_id }],
    'no parameters, for all those who wait'
  )
  const queued: string[] = []
  await runs.release(claimed, async (_client, run) => void queued.push(run))
  t.same(queued, [id])
  t.match(await runs.get(id), { state: 'queued', file_id: null, bytes: 0 })
  t.match(await runs.close(id, { state: 'cancelled' }, 1_000, quietly), { state: 'cancelled' })
  t.equal(await runs.close(id, { state: 'cancelled' }, 1_000, async () => void t.fail('told of')), undefined)
  t.equal(await runs.claim(id, randomUUID()), undefined)
})

/** A worker without a queue. */
async function openWorker(reports: Report[], files: FileStore = new MemoryFiles()) {
  const schema = newSchema()
  const runs = await openRuns(schema)
  const log = new Log()
  const logger = Object.fromEntries(
    ['info', 'warn', 'error'].map((level) => [
      level,
      (fields: object, msg: string) =>
        log.stream.write(Buffer.from(JSON.stringify({ ...fields, level, msg })))
    ])
  ) as never
  const watch = new RunWatch(runs, 10, () => {})
  const sent: [string, string][] = []
  const later: [string, number][] = []
  const send = (name: string) => async (_client: unknown, run: string) => void sent.push([name, run])
  const worker = new Worker({
    runs,
    files,
    queue: {
      sendRun: send('run'),
      sendRunLater: async (run, seconds) => void later.push([run, seconds]),
      sendFinished: send('finished')
    },
    watch,
    reports: new Map(reports.map((report) => [report.name, report])),
    open: (report, { parameters }, signal) =>
      openCsv(() => report.rows({ parameters, viewer: undefined, signal }), { digest: true }, {}),
    keepFor: 1_000,
    limits,
    events: new RunEvents(logger, '', watch),
    log: logger
  })
  return { schema, runs, worker, log, sent, later }
}

const never = new AbortController().signal
const parameters = { type: 'object' }

t.test('faults of the infrastructure are tried again, until there is no attempt left', async (t) => {
  const report = defineReport({
    name: 'x',
    version: 1,
    parameters,
    rows() {
      throw Object.assign(new Error('the database is away'), { code: '57P01' })
    }
  })
  const { runs, worker, log, sent } = await openWorker([report])
  const { id } = await newRun(runs)
  await t.rejects(worker.attempt(id, never, false), { code: '57P01' })
  t.match(await runs.get(id), { state: 'running', attempt: 1 })
  t.match(await log.find(/^a run is tried again$/), { run: { id } })
  await worker.attempt(id, never, true)
  t.match(await runs.get(id), { state: 'failed', attempt: 2, error_code: '57P01', file_id: null })
  t.match(await log.find(/^run taken over$/), { run: { id, attempt: 2 } })
  t.same(sent, [['finished', id]])
  await worker.attempt(id, never, false)
  await worker.giveUp(id)
  t.same(sent.length, 1, 'what has ended stays as it is')
  await worker.tellFinished(id)
  await worker.tellFinished(randomUUID())
  await worker.attempt(randomUUID(), never, false)

  const lost = await newRun(runs)
  await worker.giveUp(lost.id)
  t.match(await runs.get(lost.id), { state: 'failed', error_code: 'CSV_EXPORT_RUN_LOST' })
})

t.test('a report that is not known here, or not yet in that version, is left to others', async (t) => {
  const report = defineReport({ name: 'x', version: 1, parameters, rows: () => [] })
  const { schema, runs, worker, log, sent, later } = await openWorker([report])
  for (const { id } of [await newRun(runs, 'y'), await newRun(runs, 'x', 2)]) {
    for (const [age, seconds] of [
      ['-1 hour', 1],
      ['0', 1],
      ['20 seconds', 1],
      ['5 minutes', 15],
      ['23 hours', 30]
    ] as const) {
      await pool.query(`UPDATE ${schema}.runs SET created_at = now() - $2::interval WHERE id = $1`, [id, age])
      await worker.attempt(id, never, true)
      t.match(await runs.get(id), { state: 'queued', attempt: 0 }, 'also where it was the last attempt')
      const [run, pause] = later.pop() ?? []
      t.equal(run, id)
      t.ok(Math.abs((pause as number) - seconds) <= 1, `${age}: ${pause} s`)
    }
    t.match(await log.find(/^a run waits for a worker that knows its report$/), {
      level: 'warn',
      err: { code: 'CSV_EXPORT_UNKNOWN_REPORT' }
    })
    await pool.query(`UPDATE ${schema}.runs SET created_at = now() - interval '25 hours' WHERE id = $1`, [id])
    await worker.attempt(id, never, false)
    t.match(await runs.get(id), { state: 'failed', error_code: 'CSV_EXPORT_UNKNOWN_REPORT' }, 'for a day')
    t.same(sent.pop(), ['finished', id])
  }

  const { id } = await newRun(runs)
  const get = runs.get.bind(runs)
  runs.get = async (id) => {
    const run = await get(id)
    await runs.close(id, { state: 'cancelled' }, 1_000, quietly)
    return run
  }
  await worker.attempt(id, never, false)
  t.match(await get(id), { state: 'cancelled', attempt: 0 }, 'as is what was cancelled just before its claim')
})

t.test('a worker that closes gives back what it makes; what the queue took back it leaves', async (t) => {
  let asked = gate()
  const reasons: string[] = []
  const report = defineReport({
    name: 'x',
    version: 1,
    parameters,
    rows: ({ signal }) => {
      signal.addEventListener('abort', () => reasons.push(signal.reason.message))
      asked.open()
      return new Promise<never>(() => {})
    }
  })
  const { runs, worker, sent } = await openWorker([report])
  const { id } = await newRun(runs)
  const queue = new AbortController()
  const taken = worker.attempt(id, queue.signal, false)
  await asked.opened
  queue.abort(new Error('its heart stopped'))
  await taken
  t.match(await runs.get(id), { state: 'running', attempt: 1 })
  asked = gate()
  const overtaken = worker.attempt(id, never, false)
  await asked.opened
  const { run } = (await runs.claim(id, randomUUID())) as { run: RunRow }
  await overtaken
  t.same(await runs.get(id), run)
  t.match(reasons, ['its heart stopped', 'another attempt of the run has begun, or the run has ended'])

  asked = gate()
  const closing = worker.attempt(id, never, false)
  await asked.opened
  worker.close()
  await closing
  t.match(await runs.get(id), { state: 'queued', attempt: 4, file_id: null })
  t.same(sent, [['run', id]])
})

/** A store that answers no more once one of its functions is called. */
function hungFiles(name: 'create' | 'append' | 'seal') {
  const asked = gate()
  const never = () => new Promise<never>(() => {})
  const hang = (): Promise<never> => {
    asked.open()
    return never()
  }
  const files = new MemoryFiles()
  files.discard = never
  const create = files.create.bind(files)
  files.create = name === 'create' ? hang : async (id) => ({ ...(await create(id)), [name]: hang })
  return { files, asked: asked.opened }
}

for (const name of ['create', 'append', 'seal'] as const) {
  t.test(
    `a store that does not answer holds up neither a cancel nor a closing worker: ${name}`,
    async (t) => {
      const report = defineReport({ name: 'x', version: 1, parameters, rows: () => [{ a: 1 }] })
      for (const isCancelled of [true, false]) {
        const { files, asked } = hungFiles(name)
        const { runs, worker } = await openWorker([report], files)
        const { id } = await newRun(runs)
        const attempt = worker.attempt(id, never, false)
        await asked
        if (isCancelled) await runs.close(id, { state: 'cancelled' }, 1_000, quietly)
        else worker.close()
        await attempt
        t.match(await runs.get(id), { state: isCancelled ? 'cancelled' : 'queued', file_id: null })
      }
    }
  )
}

t.test('a file of the attempt before that cannot be removed is left to a sweep', async (t) => {
  const report = defineReport({ name: 'x', version: 1, parameters, rows: () => [{ a: 1 }] })
  const files = new MemoryFiles()
  files.discard = async () => {
    throw Object.assign(new Error('denied'), { code: 'EACCES' })
  }
  const { runs, worker, log } = await openWorker([report], files)
  const { id } = await newRun(runs)
  const before = await runs.claim(id, randomUUID())
  await worker.attempt(id, never, false)
  t.match(await runs.get(id), { state: 'succeeded', attempt: 2 })
  t.match(await log.find(/^a file was not removed$/), {
    fileId: before?.run.file_id,
    err: { code: 'EACCES' }
  })

  files.discard = () => new Promise(() => {})
  const next = await newRun(runs)
  await runs.claim(next.id, randomUUID())
  await worker.attempt(next.id, never, false)
  t.match(await runs.get(next.id), { state: 'succeeded', attempt: 2 }, 'also where there is no answer')
})

t.test('what another attempt may mend', async (t) => {
  for (const error of [
    { code: '08006' },
    { code: '53300' },
    { code: '25P03' },
    { code: 'ECONNREFUSED' },
    { code: 'CSV_EXPORT_DATABASE_UNAVAILABLE' },
    new Error('Connection terminated unexpectedly'),
    new Error('no rows', { cause: { code: 'EAI_AGAIN' } }),
    { $fault: 'server' },
    { $fault: 'client', name: 'RequestTimeout', $metadata: { httpStatusCode: 400 } },
    { $fault: 'client', name: 'Unknown', $metadata: { httpStatusCode: 429 } },
    { name: 'TimeoutError', $retryable: {} },
    { name: 'TimeoutError', message: '@smithy/node-http-handler - the request socket timed out' }
  ]) {
    t.ok(isTransient(error), JSON.stringify(error))
  }
  const circular = new Error('circular')
  circular.cause = circular
  const unreadable = Object.defineProperty(new Error('unreadable'), 'code', {
    get() {
      throw new Error('a getter')
    }
  })
  t.notOk(isTransient(circular), 'its own cause')
  t.notOk(isTransient(unreadable), 'unreadable')
  for (const error of [
    { $fault: 'client' },
    { $fault: 'client', name: 'AccessDenied', $metadata: { httpStatusCode: 403 } },
    { name: 'RequestTimeout' },
    { name: 'TimeoutError', message: 'The operation was aborted due to timeout' },
    { code: '22012' },
    { code: 8 },
    new Error('Connection'),
    {},
    null,
    'ECONNREFUSED',
    undefined
  ]) {
    t.notOk(isTransient(error), JSON.stringify(error))
  }
})

t.test('sweeps go on after one that failed, and end when they are stopped', async (t) => {
  let sweeps = 0
  const thrice = gate()
  const failures: string[] = []
  const files = new MemoryFiles()
  const removed = Array.from({ length: 1_001 }, () => randomUUID())
  for (const id of removed) await (await files.create(id)).seal()
  const sweep = new Sweep({
    runs: {
      async expire() {
        if (++sweeps === 1) throw new Error('the database is away')
        if (sweeps === 3) thrice.open()
        return []
      },
      forget: quietly,
      unknownFiles: async (ids: readonly string[]) => [...ids]
    },
    files: Object.assign(files, { sweep: quietly }),
    interval: 1,
    closeGrace: 5_000,
    forgetAfter: 1,
    log: { warn: (_fields: object, message: string) => failures.push(message) } as never
  })
  sweep.start()
  await thrice.opened
  await sweep.stop()
  const after = sweeps
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal(sweeps, after)
  t.same(failures, ['a sweep of the runs failed'])
  t.equal(files.kept.size, 0)
})

t.test('a sweep whose store does not answer is left to itself when it is stopped', async (t) => {
  const asked = gate()
  const files = new MemoryFiles()
  files.list = async function* () {
    asked.open()
    await new Promise(() => {})
  }
  const runs = { expire: async () => [], forget: quietly, unknownFiles: async () => [] }
  const sweep = new Sweep({ runs, files, interval: 1, closeGrace: 10, forgetAfter: 1, log: {} as never })
  sweep.start()
  // As a server that is up.
  const up = setInterval(() => {}, 1_000)
  await asked.opened
  await t.resolves(sweep.stop())
  clearInterval(up)
})

t.test('a file that cannot be removed holds up no other', async (t) => {
  const warnings: object[] = []
  const files = new MemoryFiles()
  const [stuck, other] = [randomUUID(), randomUUID()]
  await (await files.create(other)).seal()
  const discard = files.discard.bind(files)
  files.discard = async (id) => {
    if (id === stuck) throw new Error('the volume is away')
    await discard(id)
  }
  const sweep = new Sweep({
    runs: { expire: async () => [stuck, other], forget: quietly, unknownFiles: async () => [] },
    files,
    interval: 1,
    closeGrace: 5_000,
    forgetAfter: 1,
    log: { warn: (fields: object) => warnings.push(fields) } as never
  })
  await sweep.sweep()
  t.match(warnings, [{ fileId: stuck, err: { message: 'the volume is away' } }])
  t.equal(files.kept.size, 0)
})
