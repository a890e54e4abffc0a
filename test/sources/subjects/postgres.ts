import postgres from 'postgres'
import { postgresRows } from '../recipes/postgres.ts'
import type { Subject } from '../subject.ts'

const open = (url: string) => postgres(url, { max: 3 })

export const postgresJs: Subject = {
  name: 'postgres.js',
  packages: ['postgres'],
  engine: 'PostgreSQL',
  traps: ['failing', 'killedIdle', 'waiting'],
  trap: 'its cursor ends quietly when the connection is lost between two batches, does not hear return() during a wait, and a query that fails leaves holes among the rows of the next one',
  recipe(url) {
    const sql = open(url)
    return {
      rows: (view, { signal }) =>
        postgresRows(
          (after, upTo, limit) => sql`SELECT n, text FROM ${sql(view)}
            WHERE (${after}::integer IS NULL OR n > ${after}) AND n <= ${upTo} ORDER BY n LIMIT ${limit}`,
          { key: 'n', bound: async () => (await sql`SELECT max(n) FROM ${sql(view)}`)[0]?.max, signal }
        ),
      close: () => sql.end({ timeout: 1 })
    }
  },
  documented(url) {
    const sql = open(url)
    return {
      rows: (view) => sql`SELECT n, text FROM ${sql(view)}`.cursor(100),
      options: { batches: true },
      close: () => sql.end({ timeout: 1 })
    }
  }
}
