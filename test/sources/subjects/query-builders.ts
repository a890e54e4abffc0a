import { drizzle } from 'drizzle-orm/node-postgres'
import { integer, pgView, text } from 'drizzle-orm/pg-core'
import { Kysely, PostgresDialect } from 'kysely'
import Cursor from 'pg-cursor'
import { DataSource } from 'typeorm'
import { drizzleRows } from '../recipes/drizzle.ts'
import { kyselyRows } from '../recipes/kysely.ts'
import { typeormRows } from '../recipes/typeorm.ts'
import type { Subject, View } from '../subject.ts'
import { openPool } from './pg.ts'

type Tables = Record<View, { n: number; text: string }>

function openKysely(url: string) {
  const pool = openPool(url)
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool, cursor: Cursor }) })
  return { pool, query: (view: View) => db.selectFrom(view).select(['n', 'text']) }
}

export const kysely: Subject = {
  name: 'Kysely',
  packages: ['kysely'],
  engine: 'PostgreSQL',
  traps: ['killed', 'killedIdle', 'waiting'],
  trap: 'its signal frees the connection when the wait is over; a lost connection is an error that nobody hears, and ends the process',
  recipe(url) {
    const { pool, query } = openKysely(url)
    return { rows: (view, { signal }) => kyselyRows(pool, query(view), signal), close: () => pool.end() }
  },
  documented(url) {
    const { pool, query } = openKysely(url)
    return {
      rows: (view, { signal }) => query(view).stream({ chunkSize: 100, signal }),
      close: () => pool.end()
    }
  }
}

function openDrizzle(url: string) {
  const pool = openPool(url)
  const db = drizzle({ client: pool })
  const query = (view: View) => db.select().from(pgView(view, { n: integer(), text: text() }).existing())
  return { pool, query }
}

export const drizzleOrm: Subject = {
  name: 'Drizzle',
  packages: ['drizzle-orm'],
  engine: 'PostgreSQL',
  traps: ['waiting'],
  trap: 'no streams for PostgreSQL: all rows in memory, and no way to cancel',
  recipe(url) {
    const { pool, query } = openDrizzle(url)
    return { rows: (view, { signal }) => drizzleRows(pool, query(view), signal), close: () => pool.end() }
  },
  documented(url) {
    const { pool, query } = openDrizzle(url)
    return { rows: (view) => query(view), close: () => pool.end() }
  }
}

async function openTypeorm(url: string) {
  const dataSource = new DataSource({ type: 'postgres', url, extra: { max: 3 } })
  await dataSource.initialize()
  const query = (view: View) =>
    dataSource.createQueryBuilder().select('v.n', 'n').addSelect('v.text', 'text').from(view, 'v')
  return { dataSource, query }
}

export const typeorm: Subject = {
  name: 'TypeORM',
  packages: ['typeorm'],
  engine: 'PostgreSQL',
  traps: ['killed', 'killedIdle', 'waiting'],
  trap: "frees its runner on 'end' and 'error' alone, and does not hear that the connection is lost",
  async recipe(url) {
    const { dataSource, query } = await openTypeorm(url)
    return { rows: (view, { signal }) => typeormRows(query(view), signal), close: () => dataSource.destroy() }
  },
  async documented(url) {
    const { dataSource, query } = await openTypeorm(url)
    return { rows: (view) => query(view).stream(), close: () => dataSource.destroy() }
  }
}
