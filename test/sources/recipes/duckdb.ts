// const text = `SELECT id, name FROM users WHERE ($1::BIGINT IS NULL OR id > $1) AND id <= $2 ORDER BY id LIMIT $3`
// reply.csv(({ signal }) => duckRows(instance, text, { key: 'id', bound, signal }))
import type { DuckDBInstance } from '@duckdb/node-api'
import { type KeysetPagesOptions, keysetPages } from '../../../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'

export function duckRows(instance: DuckDBInstance, text: string, options: KeysetPagesOptions) {
  return keysetPages(async ({ after = null, upTo, limit, signal }) => {
    const connection = await instance.connect()
    const onAbort = () => connection.interrupt()
    signal.addEventListener('abort', onAbort)
    try {
      // Not its streams: they end as if they were whole when a statement fails half-way.
      const page = await connection.runAndReadAll(text, [after, upTo, limit])
      return page.getRowObjects()
    } finally {
      signal.removeEventListener('abort', onAbort)
      connection.closeSync()
    }
  }, options)
}
