// reply.csv(({ signal }) =>
//   typeormRows(dataSource.createQueryBuilder(Cargo, 'cargo').select('cargo.number', 'number').where(...), signal)
// )
import type { ObjectLiteral, SelectQueryBuilder } from 'typeorm'
import type { PostgresDriver } from 'typeorm/driver/postgres/PostgresDriver.js'
import { cursorRows } from '../../../plugins/pg/index.ts' // yours: from 'fastify-csv-export/pg'

export function typeormRows<T extends ObjectLiteral>(query: SelectQueryBuilder<T>, signal: AbortSignal) {
  const pool = (query.connection.driver as PostgresDriver).master
  const [text, values] = query.getQueryAndParameters()
  return cursorRows(pool, text, values, { signal })
}
