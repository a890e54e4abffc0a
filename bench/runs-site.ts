import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { request } from 'undici'
import { startEmbeddedPostgres } from '../database/embedded-postgres.ts'
import { prepareDatabase } from '../database/prepare.ts'
import type { Run } from '../plugins/runs/index.ts'
import { type Server, startProgram } from './servers.ts'

/** Processes that make and serve runs, and their database, which has so many cargoes. */
export class RunsSite implements AsyncDisposable {
  readonly #cleanUp: AsyncDisposableStack
  readonly #databaseUrl: string
  #made = 0

  private constructor(databaseUrl: string, cleanUp: AsyncDisposableStack) {
    this.#databaseUrl = databaseUrl
    this.#cleanUp = cleanUp
  }

  static async start(rows: number): Promise<RunsSite> {
    await using cleanUp = new AsyncDisposableStack()
    const folder = await mkdtemp(join(tmpdir(), 'bench-runs-'))
    // PostgreSQL runs as another user when this is root.
    await chmod(folder, 0o755)
    cleanUp.defer(() => rm(folder, { recursive: true }))
    const { url, stop } = await startEmbeddedPostgres({ folder: join(folder, 'database') })
    cleanUp.defer(stop)
    await prepareDatabase(url, { rows })
    return new RunsSite(url, cleanUp.move())
  }

  /** @param script from the top of the repository */
  startServer(script: string, env = {}): Promise<Server> {
    const path = fileURLToPath(new URL(`../${script}`, import.meta.url))
    const own = { DATABASE_URL: this.#databaseUrl, HOST: '127.0.0.1', PORT: '0' }
    return startProgram(process.execPath, [path], { ...own, ...env })
  }

  /** Asks for a run of so many cargoes, and a few more: no two ask for the same, as they would be one run. */
  async makeRun({ url }: Server, rows: number): Promise<Run> {
    const { body } = await request(`${url}/reports/cargoes/runs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ limit: rows + ++this.#made })
    })
    return (await body.json()) as Run
  }

  /** The run when it has succeeded. */
  async ended({ url }: Server, { id }: Run): Promise<Run> {
    for (;;) {
      const { body } = await request(`${url}/runs/${id}`, { headers: { prefer: 'wait=60' } })
      const run = (await body.json()) as Run
      if (run.result !== null) return run
      if (run.error !== null) throw new Error(JSON.stringify(run.error))
    }
  }

  async remove({ url }: Server, { id }: Run): Promise<void> {
    const { body } = await request(`${url}/runs/${id}`, { method: 'DELETE' })
    await body.dump()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#cleanUp.disposeAsync()
  }
}

/** Seconds between two times of runs. */
export function secondsBetween(start: string | null, end: string | null): number {
  return (Date.parse(end as string) - Date.parse(start as string)) / 1000
}
