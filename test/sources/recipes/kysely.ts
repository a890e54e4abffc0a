// reply.csv(({ signal }) => kyselyRows(pool, db.selectFrom('cargoes').selectAll().where('weight', '>', weight), signal))
import type { Compilable } from 'kysely'
import type { Pool } from 'pg'
import { cursorRows } from '../../../plugins/pg/index.ts' // yours: from 'fastify-csv-export/pg'

/** @param pool the one that Kysely's PostgresDialect has */
export function kyselyRows(pool: Pool, query: Compilable, signal: AbortSignal) {
  const { sql, parameters } = query.compile()
  return cursorRows(pool, sql, [...parameters], { signal })
}
