// reply.csv(({ signal }) => pgRows(pool, 'SELECT * FROM cargoes WHERE weight > $1', [weight], signal))
import type { Pool } from 'pg'
import { cursorRows } from '../../../plugins/pg/index.ts' // yours: from 'fastify-csv-export/pg'

export function pgRows(pool: Pool, text: string, values: unknown[], signal: AbortSignal) {
  return cursorRows(pool, text, values, { signal })
}
