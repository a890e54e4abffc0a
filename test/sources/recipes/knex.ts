// reply.csv(({ signal }) => knexRows(pool, knex('cargoes').where('weight', '>', weight), signal))
import type { Knex } from 'knex'
import type { Pool } from 'pg'
import { cursorRows } from '../../../plugins/pg/index.ts' // yours: from 'fastify-csv-export/pg'

/** @param pool of pg, beside Knex's own */
export function knexRows(pool: Pool, query: Knex.QueryBuilder, signal: AbortSignal) {
  const { sql, bindings } = query.toSQL().toNative()
  return cursorRows(pool, sql, [...bindings], { signal })
}
