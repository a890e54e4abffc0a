// reply.csv(() => sqliteRows('cargoes.db', 'SELECT * FROM cargoes WHERE weight > ?', [weight]))
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'

export function* sqliteRows(file: string, text: string, values: SQLInputValue[]): Generator<object> {
  // A connection of its own: what others write meanwhile is not in the file.
  const database = new DatabaseSync(file, { readOnly: true })
  try {
    yield* database.prepare(text).iterate(...values) as Iterable<object>
  } finally {
    database.close()
  }
}
