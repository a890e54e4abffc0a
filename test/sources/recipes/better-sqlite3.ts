// reply.csv(() => sqliteRows('cargoes.db', 'SELECT * FROM cargoes WHERE weight > ?', [weight]))
import Database from 'better-sqlite3'

export function* sqliteRows(file: string, text: string, values: unknown[]): Generator<object> {
  // A connection of its own, as one takes no write while it gives rows.
  const database = new Database(file, { readonly: true })
  try {
    yield* database.prepare(text).iterate(...values) as Iterable<object>
  } finally {
    database.close()
  }
}
