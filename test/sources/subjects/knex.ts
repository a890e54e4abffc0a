import knex from 'knex'
import { knexRows } from '../recipes/knex.ts'
import type { Subject } from '../subject.ts'
import { openPool } from './pg.ts'

export const knexJs: Subject = {
  name: 'Knex',
  packages: ['knex'],
  engine: 'PostgreSQL',
  traps: ['killed', 'killedIdle', 'waiting'],
  trap: 'a stream that is destroyed waits for its statement, and does not hear that the connection is lost',
  recipe(url) {
    const db = knex({ client: 'pg', connection: url, pool: { max: 3 } })
    const pool = openPool(url)
    return {
      rows: (view, { signal }) => knexRows(pool, db(view).select('n', 'text'), signal),
      close: () => Promise.all([db.destroy(), pool.end()])
    }
  },
  documented(url) {
    const db = knex({ client: 'pg', connection: url, pool: { max: 3 } })
    return { rows: (view) => db(view).select('n', 'text').stream(), close: () => db.destroy() }
  }
}
