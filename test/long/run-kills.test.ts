import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { request } from 'undici'
import type { Run } from '../../plugins/runs/index.ts'
import { copyToCsv, startPostgres } from '../database.ts'
import { RunProcess } from './run-processes.ts'
import { scaled, scaledTimeout } from './scale.ts'

// Each process of a run is killed at random times: its file is the right one, or its end says that there is none.

t.setTimeout(scaledTimeout(1_800_000))

const postgres = await startPostgres(t, { rows: 0 })
const web = new RunProcess(t, 'web', postgres.url)
const workers = [1, 2].map(() => new RunProcess(t, 'worker', postgres.url))
await web.start()
await Promise.all(workers.map((worker) => worker.start()))

const count = 600_000

/** Asks again while nobody answers, as a client has to, with the same key. */
async function ask(method: 'GET' | 'POST', path: string, headers = {}, body?: object): Promise<any> {
  const deadline = performance.now() + 60_000
  for (;;) {
    try {
      const response = await request(`${web.url}${path}`, {
        method,
        headers: { 'content-type': 'application/json', ...headers },
        ...(body && { body: JSON.stringify(body) })
      })
      const answer = await response.body.json()
      if (response.statusCode < 500) return answer
    } catch (error) {
      if (performance.now() > deadline) throw error
    }
    await sleep(100)
  }
}

async function ended(id: string): Promise<Run> {
  const deadline = performance.now() + 90_000
  for (;;) {
    const run = await ask('GET', `/runs/${id}`, { prefer: 'wait=5', 'x-owner': 'kills' })
    if (run.state !== 'queued' && run.state !== 'running') return run
    if (performance.now() > deadline) throw new Error(`run ${id} does not end: ${JSON.stringify(run)}`)
  }
}

async function expectedSha256(salt: string): Promise<string> {
  const client = new pg.Client({ connectionString: postgres.url })
  await client.connect()
  const text = await copyToCsv(
    client,
    `SELECT n, md5(n::text || '${salt}') AS text FROM generate_series(1, ${count}) AS n ORDER BY n`
  )
  await client.end()
  return createHash('sha256').update(text).digest('hex')
}

/** What there is of files and of their chunks, and which of them belongs to no run. */
async function orphans(): Promise<{ files: string[]; chunks: number }> {
  const client = new pg.Client({ connectionString: postgres.url })
  await client.connect()
  const files = await client.query(
    'SELECT id FROM csv_export.files WHERE NOT EXISTS (SELECT FROM csv_export.runs WHERE file_id = files.id)'
  )
  const tables = await client.query(
    "SELECT tablename FROM pg_tables WHERE schemaname = 'csv_export' AND tablename LIKE 'chunks_%'"
  )
  let chunks = 0
  for (const { tablename } of tables.rows) {
    const { rows } = await client.query(
      `SELECT count(*)::integer AS count FROM csv_export.${tablename} WHERE NOT EXISTS (SELECT FROM csv_export.files WHERE id = file_id)`
    )
    chunks += rows[0].count
  }
  await client.end()
  return { files: files.rows.map(({ id }) => id), chunks }
}

type Victim = 'a worker' | 'web' | 'PostgreSQL' | 'all'

async function killAndRestart(victim: Victim): Promise<void> {
  const victims =
    victim === 'a worker' ? workers : victim === 'web' ? [web] : victim === 'all' ? [web, ...workers] : []
  const isDatabase = victim === 'PostgreSQL' || victim === 'all'
  const ready = isDatabase ? postgres.readyAgain() : undefined
  const killed = victims.map((process) => process.kill('SIGKILL'))
  if (isDatabase) process.kill(postgres.pid, 'SIGKILL')
  await Promise.all([...killed, ready])
  await Promise.all(victims.map((process) => process.start()))
}

async function isRight(t: Test, run: Run, salt: string, sha256: string): Promise<void> {
  if (run.state !== 'succeeded') {
    t.equal(run.state, 'failed', `${salt}: ${JSON.stringify(run.error)}`)
    t.ok(run.error?.code, 'its end says why')
    return
  }
  t.equal(run.result?.sha256, sha256, `${salt}, attempt ${run.attempt}`)
  const file = await download(`${web.url}${run.result?.href}`)
  t.equal(createHash('sha256').update(file).digest('hex'), sha256, 'what is downloaded')
}

/** A server whose database has just come back may fail once more, visibly. */
async function download(url: string): Promise<Buffer> {
  const deadline = performance.now() + 60_000
  for (;;) {
    const file = await request(url, { headers: { 'x-owner': 'kills' } }).then(
      async ({ body, statusCode }) =>
        statusCode === 200 ? Buffer.from(await body.arrayBuffer()) : undefined,
      () => undefined
    )
    if (file !== undefined) return file
    if (performance.now() > deadline) throw new Error(`no file from ${url}`)
    await sleep(100)
  }
}

const victims: Victim[] = ['a worker', 'web', 'PostgreSQL', 'all']

t.test('kill -9 at random times', async (t) => {
  const outcomes: Record<string, number> = {}
  for (let round = 0; round < scaled(60); round++) {
    const victim = victims[round % victims.length] as Victim
    const salt = `${victim} ${round}`
    const sha256 = await expectedSha256(salt)
    const run: Run = await ask(
      'POST',
      '/reports/numbers/runs',
      { 'x-owner': 'kills', 'idempotency-key': salt },
      { count, salt }
    )
    await sleep(Math.random() * 2_000)
    await killAndRestart(victim)
    const last = await ended(run.id)
    await isRight(t, last, salt, sha256)
    const outcome = `${victim}: ${last.state}, attempt ${last.attempt}`
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
  }
  t.comment(JSON.stringify(outcomes))
})

t.test('nothing is left behind', async (t) => {
  const deadline = performance.now() + 30_000
  let left = await orphans()
  while ((left.files.length > 0 || left.chunks > 0) && performance.now() < deadline) {
    await sleep(500)
    left = await orphans()
  }
  t.strictSame(left, { files: [], chunks: 0 })
})
