import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { startEmbeddedPostgres } from '../database/embedded-postgres.ts'

export const rows = 300_000

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

export interface Database extends AsyncDisposable {
  url: string
  /** For files that go with it. */
  folder: string
}

/** A PostgreSQL of its own, with the rows in the table "rows". */
export async function startDatabase(): Promise<Database> {
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
  const started = cleanUp.move()
  return { url: database.url, folder, [Symbol.asyncDispose]: () => started.disposeAsync() }
}
