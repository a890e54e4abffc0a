import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { request } from 'undici'
import { startEmbeddedPostgres } from '../../database/embedded-postgres.ts'
import { prepareDatabase } from '../../database/prepare.ts'
import type { Run } from '../../plugins/runs/index.ts'
import { download } from '../clients.ts'
import type { Measure } from '../measuring.ts'
import { startProgram } from '../servers.ts'

const rows = 1_000_000

const measure: Measure = {
  name: 'runs',
  async *run(bench) {
    await using cleanUp = new AsyncDisposableStack()
    const folder = await mkdtemp(join(tmpdir(), 'bench-runs-'))
    // PostgreSQL runs as another user when this is root.
    await chmod(folder, 0o755)
    cleanUp.defer(() => rm(folder, { recursive: true }))
    const database = await startEmbeddedPostgres({ folder: join(folder, 'database') })
    cleanUp.defer(() => database.stop())
    await prepareDatabase(database.url, { rows })
    const start = (script: string, env = {}) =>
      startProgram(process.execPath, [script], { DATABASE_URL: database.url, PORT: '0', ...env })

    const { url } = cleanUp.use(await start('server.ts'))
    let made = 0
    let latest: Run | undefined
    /** No two ask for the same, as they would be one run. */
    const makeRun = async (limit = rows): Promise<Run> => {
      const { body } = await request(`${url}/reports/cargoes/runs`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ limit: limit + ++made })
      })
      return (await body.json()) as Run
    }
    const ended = async ({ id }: Run): Promise<Run> => {
      for (;;) {
        const { body } = await request(`${url}/runs/${id}`, { headers: { prefer: 'wait=60' } })
        const run = (await body.json()) as Run
        if (run.result !== null) return run
        if (run.error !== null) throw new Error(JSON.stringify(run.error))
      }
    }
    const run = async () => {
      if (latest !== undefined) await request(`${url}/runs/${latest.id}`, { method: 'DELETE' })
      const started = performance.now()
      latest = await ended(await makeRun())
      const { startedAt, finishedAt } = latest
      // Its reader looks now and then.
      return (
        Math.min(
          performance.now() - started,
          Date.parse(finishedAt as string) - Date.parse(startedAt as string)
        ) / 1000
      )
    }
    await run()
    const medians = await bench.medians({
      reply: async () => (await download(`${url}/reports/cargoes.csv`)).seconds,
      run,
      kept: async () => (await download(`${url}${latest?.result?.href}`)).seconds
    })
    const detail = (seconds: number) => `${seconds.toFixed(2)} s against ${medians.reply.toFixed(2)} s`
    yield {
      what: `a run of ${rows} cargoes: its time against reply.csv`,
      value: medians.run / medians.reply,
      unit: 'x',
      goal: { atMost: 1.5 },
      detail: detail(medians.run)
    }
    yield {
      what: 'a download of its kept file: its time against reply.csv',
      value: medians.kept / medians.reply,
      unit: 'x',
      goal: { atMost: 0.5 },
      detail: detail(medians.kept)
    }
  }
}

export default measure
