import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { request } from 'undici'
import type { Run } from '../../plugins/runs/index.ts'
import { startPostgres } from '../database.ts'
import { type RunLine, RunProcess } from './run-processes.ts'
import { scaled, scaledTimeout } from './scale.ts'

// What workers do with runs in processes of their own: take over, give back, drain, cancel.

t.setTimeout(scaledTimeout(600_000))

const postgres = await startPostgres(t, { rows: 0 })
const web = new RunProcess(t, 'web', postgres.url)
await web.start()
const database = new pg.Client({ connectionString: postgres.url })
await database.connect()
t.teardown(() => database.end())

async function ask(method: 'GET' | 'POST', path: string, body?: object, prefer = ''): Promise<any> {
  const response = await request(`${web.url}${path}`, {
    method,
    headers: { prefer, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) })
  })
  return await response.body.json()
}

let salts = 0
const makeRun = (count: number): Promise<Run> =>
  ask('POST', '/reports/numbers/runs', { count, salt: `${salts++}` })

async function ended(id: string): Promise<Run> {
  for (;;) {
    const run: Run = await ask('GET', `/runs/${id}`, undefined, 'wait=30')
    if (run.state !== 'queued' && run.state !== 'running') return run
  }
}

/** Starts workers that end with the test. */
async function startWorkers(t: Test, count: number, env: Record<string, string> = {}): Promise<RunProcess[]> {
  const workers = Array.from({ length: count }, () => new RunProcess(t, 'worker', postgres.url, env))
  await Promise.all(workers.map((worker) => worker.start()))
  return workers
}

/** The next line about an attempt, and whose it is. */
function nextLine(workers: RunProcess[], matches: (line: RunLine) => boolean) {
  return new Promise<{ line: RunLine; worker: RunProcess }>((resolve) => {
    for (const worker of workers) worker.on('run', (line) => matches(line) && resolve({ line, worker }))
  })
}

const started = (attempt: number) => (line: RunLine) =>
  /started|taken/.test(line.msg) && line.run.attempt === attempt

async function query(text: string, values: unknown[] = []): Promise<any[]> {
  return (await database.query(text, values)).rows
}

/** Files and chunks that belong to no run that has succeeded. */
async function leftBehind(): Promise<unknown[]> {
  const tables = await query(
    "SELECT tablename FROM pg_tables WHERE schemaname = 'csv_export' AND tablename LIKE 'chunks_%'"
  )
  const chunks = tables.map(({ tablename }) => `SELECT file_id FROM csv_export.${tablename}`)
  return await query(
    `SELECT DISTINCT kept.id FROM (${['SELECT id FROM csv_export.files', ...chunks].join(' UNION ALL ')}) AS kept (id)
     WHERE NOT EXISTS (SELECT FROM csv_export.runs WHERE file_id = kept.id AND state = 'succeeded')`
  )
}

async function nothingLeftBehind(t: Test): Promise<void> {
  for (let left = 60; left > 0 && (await leftBehind()).length > 0; left--) await sleep(500)
  t.strictSame(await leftBehind(), [], 'no file and no chunk is left behind')
}

t.test('a worker that stops for a while and comes back writes nothing', async (t) => {
  const workers = await startWorkers(t, 2)
  const first = nextLine(workers, started(1))
  const second = nextLine(workers, started(2))
  const { id } = await makeRun(1_500_000)
  const { worker: zombie } = await first
  zombie.signal('SIGSTOP')
  const { worker: other } = await second
  t.not(other, zombie, 'the other one takes over')
  zombie.signal('SIGCONT')
  const run = await ended(id)
  t.match(run, { state: 'succeeded', attempt: 2, result: { rows: 1_500_000 } })
  await nothingLeftBehind(t)
  await Promise.all(workers.map((worker) => worker.kill('SIGTERM')))
})

t.test('a worker that is told to stop gives its run to another within 3 s', async (t) => {
  const workers = await startWorkers(t, 2)
  const first = nextLine(workers, started(1))
  const second = nextLine(workers, started(2))
  const { id } = await makeRun(1_000_000)
  const { worker } = await first
  const stoppedAt = performance.now()
  const stopped = worker.kill('SIGTERM')
  await second
  const passed = performance.now() - stoppedAt
  t.ok(passed < 3_000, `after ${Math.round(passed)} ms`)
  await stopped
  t.match(await ended(id), { state: 'succeeded', attempt: 2 })
  await nothingLeftBehind(t)
  await Promise.all(workers.map((worker) => worker.kill('SIGTERM')))
})

for (const notify of ['true', 'false']) {
  t.test(`a backlog drains without pauses, with notify: ${notify}`, async (t) => {
    const runs: Run[] = []
    for (let made = 0; made < scaled(100); made++) runs.push(await makeRun(10))
    const workers = await startWorkers(t, 1, { NOTIFY: notify })
    const lines: RunLine[] = []
    workers[0]?.on('run', (line) => lines.push(line))
    for (const { id } of runs) t.equal((await ended(id)).state, 'succeeded')
    const starts = lines.filter(started(1)).map(({ time }) => time)
    const pauses = starts.slice(1).map((time, index) => time - (starts[index] as number))
    const longest = Math.max(...pauses)
    // A poll a job would be 1,000 each.
    const sum = pauses.reduce((sum, pause) => sum + pause, 0)
    t.ok(sum < 500 * pauses.length, `${sum} ms for ${pauses.length}, the longest pause ${longest} ms`)
    await Promise.all(workers.map((worker) => worker.kill('SIGTERM')))
  })
}

const busyReports = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'reports' AND state = 'active'"

t.test('a run that is cancelled', async (t) => {
  const queued = await makeRun(10)
  t.match(await ask('POST', `/runs/${queued.id}/cancel`), {
    state: 'cancelled',
    error: { code: 'CSV_EXPORT_RUN_CANCELLED' }
  })

  const workers = await startWorkers(t, 1)
  const first = nextLine(workers, started(1))
  const running = await makeRun(50_000_000)
  await first
  while ((await query(busyReports)).length === 0) await sleep(20)
  t.match(await ask('POST', `/runs/${running.id}/cancel`), { state: 'cancelled' })
  const cancelledAt = performance.now()
  while ((await query(busyReports)).length > 0) await sleep(20)
  const passed = performance.now() - cancelledAt
  t.ok(passed < 1_000, `its query is gone after ${Math.round(passed)} ms`)
  t.match(await ended(running.id), { state: 'cancelled', result: null })

  const next = nextLine(workers, started(1))
  const sealing = await makeRun(1_000)
  // Its seal waits for this lock.
  await query('BEGIN; LOCK TABLE csv_export.files IN EXCLUSIVE MODE')
  const { line } = await next
  t.equal(line.run.id, sealing.id)
  t.match(await ask('POST', `/runs/${sealing.id}/cancel`), { state: 'cancelled' })
  await query('COMMIT')
  t.match(await ended(sealing.id), { state: 'cancelled', result: null })
  await nothingLeftBehind(t)
  await Promise.all(workers.map((worker) => worker.kill('SIGTERM')))
})

t.test('a server that stops in the middle of a request holds up no other', async (t) => {
  const frozen = new RunProcess(t, 'web', postgres.url)
  await frozen.start()
  const ask = async ({ url }: RunProcess): Promise<number> => {
    const { statusCode, body } = await request(`${url}/reports/numbers/runs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ count: 1, salt: 'frozen' })
    })
    await body.dump()
    return statusCode
  }
  await query('BEGIN')
  await query('LOCK TABLE csv_export.runs IN ACCESS EXCLUSIVE MODE')
  const lost = ask(frozen).catch(() => {})
  const waiting = "SELECT 1 FROM pg_locks WHERE relation = 'csv_export.runs'::regclass AND NOT granted"
  while ((await query(waiting)).length === 0) await sleep(20)
  frozen.signal('SIGSTOP')
  await query('COMMIT')
  // It has the lock of its owner, and says nothing more.
  let status = await ask(web)
  for (let left = 10; left > 0 && status === 503; left--) status = await ask(web)
  t.equal(status, 202)
  await frozen.kill('SIGKILL')
  await lost
})

t.test('a worker that is killed just before and just after it seals a file', async (t) => {
  for (const [name, lock] of [
    ['before', 'LOCK TABLE csv_export.files IN EXCLUSIVE MODE'],
    ['after', 'SELECT FROM csv_export.runs WHERE id = $1 FOR UPDATE']
  ] as const) {
    const workers = await startWorkers(t, 1)
    const first = nextLine(workers, started(1))
    const { id } = await makeRun(20_000)
    await first
    await query('BEGIN')
    await query(lock, lock.includes('$1') ? [id] : [])
    // pg_stat_activity stays as it is for the length of a transaction.
    while ((await query('SELECT 1 FROM pg_locks WHERE NOT granted')).length === 0) await sleep(20)
    await workers[0]?.kill('SIGKILL')
    await query('COMMIT')
    await workers[0]?.start()
    const run = await ended(id)
    t.match(run, { state: 'succeeded', result: { rows: 20_000 } }, `${name}: attempt ${run.attempt}`)
    const files = await query(
      'SELECT count(*)::integer AS count FROM csv_export.files JOIN csv_export.runs ON file_id = files.id WHERE runs.id = $1',
      [id]
    )
    t.strictSame(files, [{ count: 1 }], 'one result')
    await nothingLeftBehind(t)
    await Promise.all(workers.map((worker) => worker.kill('SIGTERM')))
  }
})

t.test('a report that has changed while its run waited', async (t) => {
  const { id } = await makeRun(10)
  const newer = await startWorkers(t, 1, { REPORT_VERSION: '2' })
  t.match(await ended(id), { state: 'failed', error: { code: 'CSV_EXPORT_REPORT_CHANGED' }, result: null })
  await Promise.all(newer.map((worker) => worker.kill('SIGTERM')))
})

t.test('a run of a newer version waits for a worker that knows it', async (t) => {
  const newWeb = new RunProcess(t, 'web', postgres.url, { REPORT_VERSION: '2' })
  await newWeb.start()
  const older = await startWorkers(t, 1)
  const response = await request(`${newWeb.url}/reports/numbers/runs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ count: 10, salt: 'newer' })
  })
  const { id } = (await response.body.json()) as Run
  const newer = await startWorkers(t, 1, { REPORT_VERSION: '2' })
  t.match(await ended(id), { state: 'succeeded' })
  await Promise.all([...older, ...newer].map((worker) => worker.kill('SIGTERM')))
})
