// reply.csv(({ signal }) => drizzleRows(pool, db.select().from(cargoes).where(gt(cargoes.weight, weight)), signal))
import type { Query } from 'drizzle-orm'
import type { Pool } from 'pg'
import { cursorRows } from '../../../plugins/pg/index.ts' // yours: from 'fastify-csv-export/pg'

/** @param pool the one that Drizzle has: `drizzle({ client: pool })` */
export function drizzleRows(pool: Pool, query: { toSQL(): Query }, signal: AbortSignal) {
  const { sql, params } = query.toSQL()
  return cursorRows(pool, sql, params, { signal })
}
