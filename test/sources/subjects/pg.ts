import pg from 'pg'
import { copyRows } from '../../../plugins/pg/index.ts'
import { pgRows } from '../recipes/pg.ts'
import type { Subject } from '../subject.ts'

export function openPool(url: string): pg.Pool {
  const pool = new pg.Pool({ connectionString: url, max: 3 })
  pool.on('error', () => {})
  return pool
}

export const pgCursor: Subject = {
  name: 'pg, cursorRows()',
  packages: ['pg', 'pg-cursor'],
  engine: 'PostgreSQL',
  traps: [],
  trap: '',
  recipe(url) {
    const pool = openPool(url)
    return {
      rows: (view, { signal }) => pgRows(pool, `SELECT n, text FROM ${view}`, [], signal),
      close: () => pool.end()
    }
  }
}

export const pgCopy: Subject = {
  name: 'pg, copyRows()',
  packages: ['pg', 'pg-copy-streams'],
  engine: 'PostgreSQL',
  traps: [],
  trap: '',
  recipe(url) {
    const pool = openPool(url)
    return {
      rows: (view, { signal }) => copyRows(pool, `SELECT n, text FROM ${view}`, [], { signal }),
      options: { encoded: true },
      close: () => pool.end()
    }
  }
}
