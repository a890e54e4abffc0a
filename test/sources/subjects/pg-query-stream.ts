import QueryStream from 'pg-query-stream'
import { queryStreamRows } from '../recipes/pg-query-stream.ts'
import type { Subject } from '../subject.ts'
import { openPool } from './pg.ts'

export const pgQueryStream: Subject = {
  name: 'pg-query-stream',
  packages: ['pg-query-stream'],
  engine: 'PostgreSQL',
  traps: ['failing', 'killed', 'killedIdle', 'streaming', 'waiting'],
  trap: "gives its connection back at 'end' alone, and does not hear that the connection is lost",
  recipe(url) {
    const pool = openPool(url)
    return {
      rows: (view) => queryStreamRows(pool, `SELECT n, text FROM ${view}`, []),
      close: () => pool.end()
    }
  },
  documented(url) {
    const pool = openPool(url)
    return {
      async rows(view) {
        const client = await pool.connect()
        const stream = client.query(new QueryStream(`SELECT n, text FROM ${view}`))
        stream.on('end', () => client.release())
        return stream
      },
      close: () => pool.end()
    }
  }
}
