import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { request } from 'undici'
import type { Run } from '../../plugins/runs/index.ts'
import { startPostgres } from '../database.ts'
import { openPool } from '../plugins/pg/pools.ts'
import { RunProcess } from './run-processes.ts'
import { scaled, scaledTimeout } from './scale.ts'

// The runs' tables are made and changed while processes of this release and of the one to come work with them.

t.setTimeout(scaledTimeout(600_000))

const migration =
  "ALTER TABLE runs ADD COLUMN note text NOT NULL DEFAULT ''; CREATE INDEX runs_by_report ON runs (report)"

const postgres = await startPostgres(t, { rows: 0 })
const pool = openPool(t, postgres.url)

async function query(text: string): Promise<any[]> {
  return (await pool.query(text)).rows
}

const versions = (): Promise<any[]> => query('SELECT version FROM csv_export.run_migrations ORDER BY version')

/** In processes of their own, five in each. */
async function startAtOnce(count: number, ...args: string[]): Promise<void> {
  const script = new URL('run-starts.ts', import.meta.url).pathname
  const start = () => promisify(execFile)(process.execPath, [script, postgres.url, '5', ...args])
  await Promise.all(Array.from({ length: Math.ceil(count / 5) }, start))
}

t.test('many that start at once make one schema, and change it once', async (t) => {
  await query('ALTER SYSTEM SET max_connections = 400')
  const ready = postgres.readyAgain()
  process.kill(postgres.pid, 'SIGKILL')
  await ready
  const count = scaled(50)
  await startAtOnce(count)
  t.same(await versions(), [{ version: 1 }])
  await startAtOnce(count, migration)
  t.same(await versions(), [{ version: 1 }, { version: 2 }])
  await startAtOnce(count)
  t.same(await versions(), [{ version: 1 }, { version: 2 }], 'older ones leave it as it is')
  t.same(await query('SELECT count(*)::integer AS count FROM csv_export_queue.version'), [{ count: 1 }])
  await query('DROP SCHEMA csv_export CASCADE')
})

const hashOf = (algorithm: string, data: string | Buffer): string =>
  createHash(algorithm).update(data).digest('hex')

/** A client that makes runs, one after the other, and downloads their files, until it is told to stop. */
function startClient(t: Test, web: RunProcess, name: string) {
  let stopped = false
  const made: Run[] = []
  async function makeRun(salt: string): Promise<void> {
    const count = 20_000
    const lines = Array.from({ length: count }, (_, n) => `${n + 1},${hashOf('md5', `${n + 1}${salt}`)}\n`)
    const expected = hashOf('sha256', `n,text\n${lines.join('')}`)
    const answer = await request(`${web.url}/reports/numbers/runs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ count, salt })
    })
    let run = (await answer.body.json()) as Run
    while (run.state === 'queued' || run.state === 'running') {
      const { body } = await request(`${web.url}/runs/${run.id}`, { headers: { prefer: 'wait=30' } })
      run = (await body.json()) as Run
    }
    t.match(run, { state: 'succeeded', result: { sha256: expected } }, salt)
    const { body } = await request(`${web.url}${run.result?.href}`)
    const file = Buffer.from(await body.arrayBuffer())
    t.equal(hashOf('sha256', file), expected, 'what is downloaded')
    made.push(run)
  }
  const ended = (async () => {
    while (!stopped) await makeRun(`${name} ${made.length}`)
  })()
  return {
    made,
    /** Resolves when it has made as many more. */
    async more(count: number) {
      const wanted = made.length + count
      while (made.length < wanted) await Promise.race([sleep(20), ended])
    },
    async stop() {
      stopped = true
      await ended
    }
  }
}

/** How many runs a worker has made the file of. */
function countRuns(worker: RunProcess): () => number {
  let count = 0
  worker.on('run', ({ run }) => {
    if (run.state === 'succeeded') count++
  })
  return () => count
}

t.test('old processes go on while a new one changes the tables, and beside it', async (t) => {
  const start = async (role: 'web' | 'worker', env = {}): Promise<RunProcess> => {
    const process = new RunProcess(t, role, postgres.url, env)
    await process.start()
    return process
  }
  const [oldWeb, oldWorker] = await Promise.all([start('web'), start('worker')])
  const ofOld = countRuns(oldWorker)
  const client = startClient(t, oldWeb, 'old')
  await client.more(3)
  t.same(await versions(), [{ version: 1 }])

  const newWorker = await start('worker', { MIGRATION: migration })
  t.same(await versions(), [{ version: 1 }, { version: 2 }])
  const ofNew = countRuns(newWorker)
  const newWeb = await start('web', { MIGRATION: migration })
  const newClient = startClient(t, newWeb, 'new')
  const [oldBefore, newBefore] = [ofOld(), ofNew()]
  while (ofOld() < oldBefore + 3 || ofNew() < newBefore + 3) await sleep(20)
  await Promise.all([client.more(3), newClient.more(3)])

  await oldWorker.kill('SIGTERM')
  await newWorker.kill('SIGTERM')
  await oldWorker.start()
  await Promise.all([client.more(3), newClient.more(3)])
  t.comment(`made: ${ofOld()} by the old worker, ${ofNew()} by the new one`)
  await Promise.all([client.stop(), newClient.stop()])
})
