import { describe } from '../describe.ts'
import { CSV_EXPORT_INVALID_PAGE } from '../errors.ts'
import { func, isArrayOf, isString, refusal, rule } from '../options/option.ts'
import { BatchedRows, type Batches } from './batched-rows.ts'
import { type Key, Keys } from './keys.ts'

/** What a page is asked for. `after` and `upTo` are what `bound()` gives: a key, or an array of its parts. */
export interface KeysetPage<Key = any> {
  /** The key of the last row of the page before: rows come after it. `undefined` for the first page. */
  after: Key | undefined
  /** The last key that is wanted, as `bound()` gave it: rows come up to it, itself included. */
  upTo: Key
  /** Most rows that may come. */
  limit: number
  /** Fires when the rows are no longer wanted. */
  signal: AbortSignal
}

export interface KeysetPagesOptions<Name extends string = string, Key = any> {
  /**
   * The column that the rows are ordered by, or the columns, in the order of ORDER BY. No two rows may be equal in it, so
   * the last one is mostly the primary key, and none may be NULL: the database's own comparison leaves such rows out.
   * Values are strings, numbers, bigints or booleans.
   */
  key: Name | readonly Name[]
  /**
   * Gives the key of the last row there is, or of the last one wanted: an array of the parts where `key` is a list. Asked
   * once, before the first page. `null` or `undefined` is no rows.
   */
  bound: () => Key | null | undefined | PromiseLike<Key | null | undefined>
  /** Most rows of a page; all rows of one page are held. @default 1000 */
  limit?: number | undefined
  /** Ends it at once when it fires, and fires the `signal` of the page that is under way. */
  signal?: AbortSignal | undefined
}

/**
 * The rows of many short queries instead of a long one: each asks for the next `limit` rows after the last one that came.
 * No connection is held between them, however slow the client is, and there is no snapshot: of what changes meanwhile,
 * rows may be left out, or come as they are by then. A row whose key stays, and that is there from the call of `bound()`
 * to the end, comes exactly once.
 *
 * A page has to be ordered by `key` and to come from one query with that limit. The rows end with a page that has none, or
 * with the row of the bound. A page is checked before its first row is given, as far as that can be done without the
 * database: order is compared between numbers alone, other keys have to differ from the one before.
 *
 * Iterate them: a row that has been fetched already is given by `next()` at once, and not as a promise.
 *
 * @param page fetches a page
 * @throws CSV_EXPORT_INVALID_OPTION; from the iterator CSV_EXPORT_INVALID_PAGE, what `page` or `bound` throws, or the
 * reason of the signal
 * @example
 * const text = 'SELECT id, name FROM users WHERE ($1::bigint IS NULL OR id > $1) AND id <= $2 ORDER BY id LIMIT $3'
 * app.get('/users.csv', (request, reply) =>
 *   reply.csv(({ signal }) =>
 *     keysetPages(async ({ after, upTo, limit }) => (await pool.query(text, [after, upTo, limit])).rows, {
 *       key: 'id',
 *       bound: async () => (await pool.query('SELECT max(id) FROM users')).rows[0].max,
 *       signal
 *     })
 *   )
 * )
 */
export function keysetPages<Name extends string, Row extends { [N in Name]?: unknown }, Key>(
  page: (page: KeysetPage<Key>) => readonly Row[] | PromiseLike<readonly Row[]>,
  { key, bound, limit = 1_000, signal }: KeysetPagesOptions<Name, Key>
): AsyncIterable<Row> {
  const options = { page, key, bound, limit }
  for (const [name, { accepts, expected }] of Object.entries(rules)) {
    const value = options[name as keyof typeof rules]
    if (!accepts(value)) throw refusal(name, expected, value)
  }
  return new BatchedRows(new Pages(options), signal)
}

/** Some drivers take more for something else. */
const largestLimit = 2 ** 31 - 1

const rules = {
  page: func,
  key: rule(
    (value) => isString(value) || (isArrayOf(value, isString) && (value as string[]).length > 0),
    'the name of a column, or a list of names'
  ),
  bound: func,
  limit: rule(
    (value) => Number.isInteger(value) && (value as number) >= 1 && (value as number) <= largestLimit,
    `a whole number from 1 to ${largestLimit}`
  )
}

type Options<Row, Key> = KeysetPagesOptions<string, Key> & {
  page: (page: KeysetPage<Key>) => readonly Row[] | PromiseLike<readonly Row[]>
  limit: number
}

class Pages<Row, Value> implements Batches<Row> {
  readonly #options: Options<Row, Value>
  readonly #keys: Keys
  readonly #abort = new AbortController()
  #upTo: Key | undefined
  #after: Key | undefined
  /** What is being checked: 0 for what is no row. */
  #place = 'bound()'
  #row = 0
  #count = 0
  #isLast = false

  constructor(options: Options<Row, Value>) {
    this.#options = options
    this.#keys = new Keys(options.key)
  }

  read(): Promise<readonly Row[]> {
    const { signal } = this.#abort
    return new Promise((resolve, reject) => {
      // What is waited for may know nothing of the signal.
      const onAbort = () => reject(signal.reason)
      signal.addEventListener('abort', onAbort)
      this.#fetch()
        .finally(() => signal.removeEventListener('abort', onAbort))
        .then(resolve, reject)
    })
  }

  end(reason: unknown): void {
    this.#abort.abort(reason)
  }

  async #fetch(): Promise<readonly Row[]> {
    const { page, bound, limit } = this.#options
    const { signal } = this.#abort
    if (this.#isLast) return []
    if (this.#upTo === undefined) {
      const value = await bound()
      signal.throwIfAborted()
      if (value === undefined || value === null) return []
      this.#upTo = this.#keys.ofBound(value, this.#refusal)
    }
    const [after, upTo] = [this.#after, this.#upTo].map((key) => key && this.#keys.toValue(key)) as Value[]
    const rows = await page({ after, upTo: upTo as Value, limit, signal })
    this.#check(rows, this.#upTo)
    return rows
  }

  /** All of it before the first row of it is given. A page that is not full is no end: rows may go while it is made. */
  #check(rows: readonly Row[], upTo: Key): void {
    this.#place = `page ${++this.#count}`
    this.#row = 0
    if (!Array.isArray(rows)) throw this.#refusal(`it is ${describe(rows)}, and has to be an array of rows`)
    if (rows.length > this.#options.limit) {
      throw this.#refusal(`it has ${rows.length} rows, and "limit" is ${this.#options.limit}`)
    }
    const after = this.#after
    for (this.#row = 1; this.#row <= rows.length; this.#row++) {
      this.#checkRow(rows[this.#row - 1], after, upTo)
    }
  }

  #checkRow(row: unknown, after: Key | undefined, upTo: Key): void {
    const key = this.#keys.ofRow(row, this.#refusal)
    const step = this.#step(this.#after, key)
    // A page that comes again has its last row twice.
    if (step === 0 || this.#step(after, key) === 0) {
      throw this.#refusal(
        'its key has come before: give rows after "after", by a key whose last part is unique'
      )
    }
    const rest = this.#keys.compare(key, upTo)
    if (this.#isLast || rest === -1) {
      throw this.#refusal('it comes after "upTo": give rows up to that, ordered by the key')
    }
    if (step === -1) throw this.#refusal('it belongs before the row before it: order rows by the key')
    this.#after = key
    this.#isLast = rest === 0
  }

  #step(before: Key | undefined, key: Key): -1 | 0 | 1 {
    return before === undefined ? 1 : this.#keys.compare(before, key)
  }

  readonly #refusal = (problem: string): Error =>
    new CSV_EXPORT_INVALID_PAGE(this.#row === 0 ? this.#place : `${this.#place}, row ${this.#row}`, problem)
}
