import { execFile } from 'node:child_process'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../database/embedded-postgres.ts'
import { download } from '../clients.ts'
import { type Measure, rate } from '../measuring.ts'
import { differences } from '../outputs.ts'
import { startNode } from '../servers.ts'

const run = promisify(execFile)
const rows = 300_000

/** The rows of shapes.ts, "10 mixed columns", as a table. */
const createRows = `
  CREATE TABLE rows AS
  SELECT
    number AS id,
    'Customer ' || number % 1000 AS name,
    'customer.' || number % 1000 || '@example.com' AS email,
    number % 90 AS age,
    (number % 100000) * 1.01::float8 AS price,
    number % 2 = 0 AS active,
    CASE WHEN number % 10 = 0 THEN 'quoted, because "special"' ELSE 'nothing special about it' END AS note,
    'Österreich' AS country,
    timestamptz '2026-01-01 00:00Z' + number * interval '1 second' AS created,
    NULL::timestamptz AS closed
  FROM generate_series(0, ${rows - 1}) AS number`

const measure: Measure = {
  name: 'postgres',
  async *run(bench) {
    await using cleanUp = new AsyncDisposableStack()
    const folder = await mkdtemp(join(tmpdir(), 'bench-postgres-'))
    // PostgreSQL runs as another user when this is root.
    await chmod(folder, 0o755)
    cleanUp.defer(() => rm(folder, { recursive: true }))
    const database = await startEmbeddedPostgres({ folder: join(folder, 'database') })
    cleanUp.defer(() => database.stop())
    const client = new pg.Client({ connectionString: database.url })
    await client.connect()
    await client.query(createRows)
    // Else the first readers would pay for it.
    await client.query('VACUUM (FREEZE, ANALYZE) rows')
    // Else a scan of a large table may begin in its middle, and the rows of two ways cannot be compared.
    await client.query('ALTER ROLE CURRENT_USER SET synchronize_seqscans = off')
    await client.end()

    const way = async (path: string) => {
      const { url } = cleanUp.use(await startNode('server.ts', [], { DATABASE_URL: database.url }))
      return { url: url + path, run: async () => (await download(url + path)).seconds }
    }
    const [cursor, queryStream, copy] = [await way('/cursor'), await way('/query-stream'), await way('/copy')]
    bench.notes.push(...(await differences('pg-query-stream', cursor.url, queryStream.url)))
    bench.notes.push(...(await differences('COPY', cursor.url, copy.url)))
    const seconds = await bench.times({ cursor: cursor.run, queryStream: queryStream.run })
    yield {
      what: 'PostgreSQL by cursor: rows/s of reply.csv against pg-query-stream into the usual pipeline',
      value: seconds.queryStream / seconds.cursor,
      unit: 'x',
      goal: { atLeast: 3.5 },
      detail: `${rate(rows, seconds.cursor)} against ${rate(rows, seconds.queryStream)}`
    }

    const file = join(folder, 'rows.csv')
    const psql = async () => {
      const start = performance.now()
      await run('psql', [
        database.url,
        '-qc',
        `\\copy (SELECT * FROM rows) TO '${file}' WITH (FORMAT csv, HEADER)`
      ])
      return (performance.now() - start) / 1000
    }
    const goal = { atLeast: 0.8 }
    const what = 'PostgreSQL by COPY: rows/s against psql \\copy to a file'
    if (!(await isInstalled('psql')))
      return yield { what, unit: 'x', goal, detail: 'psql is not on this machine' }
    const copying = await bench.times({ copy: copy.run, psql })
    const detail = `${rate(rows, copying.copy)} against ${rate(rows, copying.psql)}`
    yield { what, value: copying.psql / copying.copy, unit: 'x', goal, detail }
  }
}

function isInstalled(program: string): Promise<boolean> {
  return run(program, ['--version']).then(
    () => true,
    () => false
  )
}

export default measure
