// const page = (after: number | null, upTo: number, limit: number) => sql`SELECT id, name FROM users
//   WHERE (${after}::integer IS NULL OR id > ${after}) AND id <= ${upTo} ORDER BY id LIMIT ${limit}`
// const bound = async () => (await sql`SELECT max(id) FROM users`)[0]?.max
// reply.csv(({ signal }) => postgresRows(page, { key: 'id', bound, signal }))
import type { PendingQuery, Row } from 'postgres'
import { type KeysetPagesOptions, keysetPages } from '../../../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'

export function postgresRows(
  page: (after: any, upTo: any, limit: number) => PendingQuery<Row[]>,
  options: KeysetPagesOptions
) {
  return keysetPages(async ({ after = null, upTo, limit, signal }) => {
    const query = page(after, upTo, limit)
    const rows: Row[] = []
    let cancelled: unknown
    const onAbort = () => {
      cancelled = query.cancel()
    }
    signal.addEventListener('abort', onAbort)
    try {
      // Not from its result: after a query that fails, that of the next one has holes in the place of rows.
      await query.forEach((row) => void rows.push(row))
    } finally {
      signal.removeEventListener('abort', onAbort)
      // A cancel that comes late would end the next query.
      await cancelled
    }
    return rows
  }, options)
}
