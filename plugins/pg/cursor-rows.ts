import type pg from 'pg'
import type Cursor from 'pg-cursor'
import { CSV_EXPORT_EQUAL_NAMES, CSV_EXPORT_INVALID_OPTION } from './errors.ts'
import { onCopy, onDescription } from './insides.ts'
import { peer } from './peers.ts'
import type { Session } from './session.ts'
import type { SqlStatement } from './sql.ts'
import { asText, readCall, type Statement, StatementRows } from './statement-rows.ts'

/** A row as PostgreSQL's own text, in the order of its columns: no digit of a numeric, bigint or timestamp is lost. */
export type TextRow = (string | null)[]

export interface CursorRows extends AsyncIterable<TextRow> {
  /**
   * The names of the columns, in order. Known when the first `next()` answers, also where there is no row, and mostly
   * before: PostgreSQL tells them before it looks for rows. Stays undefined for a statement that gives no rows at all.
   */
  readonly columns: readonly string[] | undefined
}

export interface CursorRowsOptions {
  /** Ends the statement at once when it fires, also on the server. */
  signal?: AbortSignal | undefined
  /**
   * Rows that are fetched at a time; twice as many are held, at most. By default 100, and fewer where 100 have more than
   * about 64 KiB of text.
   */
  batchSize?: number | undefined
}

/**
 * The rows of one statement, read through a server-side cursor: it sees one snapshot, and memory does not grow with it.
 * It runs in a transaction of its own, committed after the last row, and rolled back when it is left before, fails or is
 * cancelled. The connection is borrowed when the first row is asked for.
 *
 * Rows are arrays of text, with the time zone UTC. Iterate them: a row that has been fetched already is given by `next()`
 * at once, and not as a promise.
 *
 * @param pool any pool of pg, with your own options
 * @param values the parameters `$1`, `$2` and so on, as pg takes them
 * @throws CSV_EXPORT_INVALID_OPTION; from the iterator PostgreSQL's own errors, CSV_EXPORT_DATABASE_UNAVAILABLE (503),
 * CSV_EXPORT_EQUAL_NAMES, CSV_EXPORT_NOT_INSTALLED without pg-cursor, the reason of the signal, or what a value throws that cannot be prepared
 * @example
 * app.get('/users.csv', (request, reply) =>
 *   reply.csv(({ signal }) => cursorRows(pool, 'SELECT id, name FROM users WHERE id > $1', [10], { signal }))
 * )
 */
export function cursorRows(
  pool: pg.Pool,
  text: string,
  values?: readonly unknown[],
  options?: CursorRowsOptions
): CursorRows
/** @param statement of `sql`, whose values are its parameters */
export function cursorRows(pool: pg.Pool, statement: SqlStatement, options?: CursorRowsOptions): CursorRows
export function cursorRows(
  pool: pg.Pool,
  query: string | SqlStatement,
  valuesOrOptions?: readonly unknown[] | CursorRowsOptions,
  lastOptions?: CursorRowsOptions
): CursorRows {
  const { statement, options } = readCall(pool, query, valuesOrOptions, lastOptions)
  const { signal, batchSize } = options
  if (batchSize !== undefined) checkBatchSize(batchSize)
  return new StatementRows(pool, () => open(statement.text, statement.values, batchSize), signal)
}

function checkBatchSize(batchSize: number): void {
  // PostgreSQL takes 0 for all rows, as what is more than 31 bits hold.
  if (Number.isInteger(batchSize) && batchSize >= 1 && batchSize <= largestBatch) return
  throw new CSV_EXPORT_INVALID_OPTION('batchSize', `a whole number from 1 to ${largestBatch}`, batchSize)
}

/** @throws what a value throws that cannot be prepared, before a connection is borrowed */
async function open(
  text: string,
  values: readonly unknown[],
  batchSize: number | undefined
): Promise<CursorStatement> {
  const { default: Cursor } = await peer('pg-cursor', 'cursorRows()', import('pg-cursor'))
  const cursor = new Cursor<TextRow>(text, [...values], { types: asText, rowMode: 'array' })
  return new CursorStatement(cursor, batchSize)
}

const largestBatch = 2 ** 31 - 1

/**
 * 500 rows at a time are 1.3 times as fast, but they are held, twice, for a client that has stopped reading: 100 rows of
 * ten cells take about 38 KiB.
 */
const mostRows = 100
const mostText = 65_536

class CursorStatement implements Statement<TextRow> {
  columns: readonly string[] | undefined
  readonly #cursor: Cursor<TextRow>
  readonly #batchSize: number | undefined
  #nextSize = mostRows

  constructor(cursor: Cursor<TextRow>, batchSize: number | undefined) {
    this.#cursor = cursor
    this.#batchSize = batchSize
  }

  async start(session: Session): Promise<void> {
    const cursor = this.#cursor
    cursor.on('error', session.fail)
    onDescription(cursor, (names) => {
      this.columns = names
      const equal = names.find((name, index) => names.indexOf(name) !== index)
      if (equal !== undefined) session.end(new CSV_EXPORT_EQUAL_NAMES(JSON.stringify(equal)))
    })
    onCopy(cursor, () => {
      const expected = 'a statement that gives rows'
      session.end(new CSV_EXPORT_INVALID_OPTION('text', expected, 'COPY: see copyRows()'))
    })
    await session.submit(cursor, () => cursor.close())
  }

  async read(): Promise<TextRow[]> {
    if (this.#batchSize !== undefined) return this.#cursor.read(this.#batchSize)
    const rows = await this.#cursor.read(this.#nextSize)
    const textOfRow = lengthOf(rows) / Math.max(1, rows.length)
    this.#nextSize = Math.max(1, Math.min(mostRows, Math.floor(mostText / Math.max(1, textOfRow))))
    return rows
  }
}

/** Characters. */
function lengthOf(rows: readonly TextRow[]): number {
  let length = 0
  for (const row of rows) for (const cell of row) length += cell?.length ?? 0
  return length
}
