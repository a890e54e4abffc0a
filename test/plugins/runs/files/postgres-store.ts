import pg from 'pg'
import type { Test } from 'tap'
import { PostgresFiles } from '../../../../plugins/runs/index.ts'
import { openPool } from '../../pg/pools.ts'
import type { TestedStore } from './contract.ts'

/** Files of a schema, prepared. */
export async function openFiles(
  t: Test,
  url: string,
  { schema }: { schema: string },
  options: pg.PoolConfig = {}
): Promise<TestedStore & { store: PostgresFiles; pool: pg.Pool; downloads: pg.Pool }> {
  const pool = openPool(t, url, { max: 3, ...options })
  const downloads = openPool(t, url, { max: 2, ...options })
  const store = new PostgresFiles({ pool, downloads, schema })
  await store.prepare()
  const name = pg.escapeIdentifier(schema)
  return {
    store,
    pool,
    downloads,
    chunkSize: 1_048_576,
    async count(id) {
      const tables = await pool.query(
        "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename ~ '^chunks_\\d{8}$'",
        [schema]
      )
      const rows = [`SELECT FROM ${name}.files WHERE id = $1`].concat(
        tables.rows.map(({ tablename }) => `SELECT FROM ${name}.${tablename} WHERE file_id = $1`)
      )
      const counted = await pool.query(
        `SELECT count(*)::integer AS rows FROM (${rows.join(' UNION ALL ')}) rows`,
        [id]
      )
      return counted.rows[0].rows
    },
    held: () => downloads.totalCount - downloads.idleCount + downloads.waitingCount
  }
}
