import { DuckDBInstance } from '@duckdb/node-api'
import { duckRows } from '../recipes/duckdb.ts'
import { type Subject, WHOLE_ROWS } from '../subject.ts'

/** A statement fails after the rows that a stream fetches ahead. */
async function open() {
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  await connection.run(`
    CREATE TABLE numbers AS SELECT n::INTEGER AS n, repeat('x', 100) || n AS text FROM range(1, 300001) t(n);
    CREATE VIEW few AS SELECT * FROM numbers WHERE n <= 10;
    CREATE VIEW whole AS SELECT * FROM numbers WHERE n <= ${WHOLE_ROWS};
    CREATE VIEW failing AS
      SELECT n, CASE WHEN n = 60050 THEN error('row 60050 fails') ELSE text END AS text FROM numbers`)
  return { instance, connection, close: () => connection.closeSync() }
}

export const duckdb: Subject = {
  name: 'DuckDB',
  packages: ['@duckdb/node-api'],
  engine: 'DuckDB',
  traps: ['failing'],
  trap: 'its streams end quietly when the statement fails half-way',
  async recipe() {
    const { instance, connection, close } = await open()
    return {
      rows: (view, { signal }) =>
        duckRows(
          instance,
          `SELECT n, text FROM ${view} WHERE ($1::INTEGER IS NULL OR n > $1) AND n <= $2 ORDER BY n LIMIT $3`,
          {
            key: 'n',
            limit: 10_000,
            bound: async () =>
              (await connection.runAndReadAll(`SELECT max(n) FROM numbers`)).getRows()[0]?.[0] as number,
            signal
          }
        ),
      close
    }
  },
  async documented() {
    const { connection, close } = await open()
    return {
      rows: async (view) => (await connection.stream(`SELECT n, text FROM ${view}`)).yieldRowObjects(),
      options: { batches: true },
      close
    }
  }
}
