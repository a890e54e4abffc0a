import type pg from 'pg'
import type Cursor from 'pg-cursor'
import { CSV_EXPORT_EQUAL_NAMES, CSV_EXPORT_INVALID_OPTION } from './errors.ts'
import { onCopy, onDescription, onRow, setReading } from './insides.ts'
import { peer } from './peers.ts'
import type { Session } from './session.ts'
import type { SqlStatement } from './sql.ts'
import { readCall, type Statement, StatementRows } from './statement-rows.ts'

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
   * Rows that are fetched at a time; the next ones come when three quarters of them are taken. By default 100, and then twice as
   * many each time, up to about 128 KiB; 100 again where they have taken more than a second. Of rows that turn out to be larger,
   * no more than about 256 KiB are held: the others wait on the server.
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
  const cursor = new Cursor(text, [...values])
  return new CursorStatement(cursor, batchSize)
}

const largestBatch = 2 ** 31 - 1

/** So that the first byte comes soon, and a client that stalls at once holds little. */
const firstRows = 100

/** Bytes of a batch, about. Each costs a round trip, and is held for a client that has stopped reading. */
const mostHeld = 131_072

/**
 * Bytes of rows, about, at which no more are read until somebody has taken them: nobody knows before how large the rows of a
 * batch are.
 */
const full = 2 * mostHeld

/** What a string, and its place in the row, take besides its characters. */
const bytesOfCell = 24

/** Milliseconds. The rows of a statement that takes its time are not to wait for many others. */
const slow = 1_000

class CursorStatement implements Statement<TextRow> {
  columns: readonly string[] | undefined
  readonly #cursor: Cursor
  readonly #batchSize: number | undefined
  #nextSize = firstRows
  /** The one that is under way. */
  #batch: Promise<void> | undefined
  /** Its rows, and their bytes, about. */
  #count = 0
  #bytes = 0
  /** Of these, the rows that are here, and their bytes. */
  #rows: TextRow[] = []
  #held = 0
  #full = Promise.withResolvers<false>()
  #isStopped = false

  constructor(cursor: Cursor, batchSize: number | undefined) {
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
    onRow(cursor, this.#onRow)
    await session.submit(cursor, () => cursor.close())
  }

  async read(): Promise<TextRow[]> {
    let isOver = false
    while (this.#rows.length === 0 && !isOver) isOver = await this.#advance()
    const rows = this.#rows
    this.#rows = []
    this.#held = 0
    return rows
  }

  stop(): Promise<void> | undefined {
    this.#isStopped = true
    this.#rows = []
    // A batch comes to its end, cancelled or not, only when it is read.
    if (this.#batch !== undefined) setReading(this.#cursor, true)
    return this.#batch
  }

  readonly #onRow = (row: TextRow, bytes: number): void => {
    if (this.#isStopped) return
    const size = bytes + row.length * bytesOfCell
    this.#rows.push(row)
    this.#held += size
    this.#count++
    this.#bytes += size
    if (this.#held < full) return
    setReading(this.#cursor, false)
    this.#full.resolve(false)
  }

  /** @returns whether there are no more rows */
  async #advance(): Promise<boolean> {
    if (this.#batch === undefined) this.#batch = this.#fetch()
    else setReading(this.#cursor, true)
    this.#full = Promise.withResolvers()
    const isWhole = await Promise.race([this.#batch.then(() => true), this.#full.promise])
    if (!isWhole) return false
    this.#batch = undefined
    return this.#count === 0
  }

  async #fetch(): Promise<void> {
    this.#count = 0
    this.#bytes = 0
    const startedAt = performance.now()
    try {
      await this.#cursor.read(this.#batchSize ?? this.#nextSize)
    } finally {
      setReading(this.#cursor, true)
    }
    const isSlow = performance.now() - startedAt >= slow
    const wanted = isSlow ? firstRows : Math.max(firstRows, 2 * this.#count)
    const fitting = Math.floor((mostHeld * this.#count) / Math.max(1, this.#bytes))
    this.#nextSize = Math.max(1, Math.min(wanted, fitting))
  }
}
