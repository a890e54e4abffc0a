import type pg from 'pg'
import { BatchedRows, type Batches } from '../csv-export/stream/batched-rows.ts'
import { CSV_EXPORT_INVALID_OPTION } from './errors.ts'
import { Session } from './session.ts'
import { SqlStatement } from './sql.ts'

/** A statement that gives its rows, or pieces of text, in batches. */
export interface Statement<T> {
  /** Once known, the names of its columns. */
  readonly columns?: readonly string[] | undefined
  /** Sends it. What goes wrong between two reads, it tells the session. */
  start(session: Session): Promise<void>
  /** The next ones; none at the end. */
  read(): Promise<readonly T[]>
  /**
   * Nobody wants what still comes.
   * @returns settles when the server has answered; undefined where that is known without it
   */
  stop?(): Promise<unknown> | undefined
}

/** The rows of one statement, in a transaction of its own. */
export class StatementRows<T> extends BatchedRows<T> {
  readonly #batches: StatementBatches<T>

  /**
   * @param open makes the statement when the first row is asked for
   * @param signal ends it at once, as `return()` does; `next()` then rejects with its reason
   */
  constructor(pool: pg.Pool, open: () => Promise<Statement<T>>, signal: AbortSignal | undefined) {
    const batches = new StatementBatches(pool, open)
    super(batches, signal)
    this.#batches = batches
  }

  get columns(): readonly string[] | undefined {
    return this.#batches.columns
  }
}

/** The next batch is under way while the end of the last one is used, and never more. */
class StatementBatches<T> implements Batches<T> {
  readonly #session: Session
  readonly #open: () => Promise<Statement<T>>
  #statement: Statement<T> | undefined
  #next: Promise<readonly T[]> | undefined

  constructor(pool: pg.Pool, open: () => Promise<Statement<T>>) {
    this.#session = new Session(pool)
    this.#open = open
  }

  get columns(): readonly string[] | undefined {
    return this.#statement?.columns
  }

  async read(): Promise<readonly T[]> {
    const statement = this.#statement ?? (await this.#start())
    const batch = await (this.#next ?? this.#ask(statement))
    if (batch.length === 0) await this.#session.commit()
    this.#next = undefined
    return batch
  }

  readAhead(): void {
    this.#next = this.#ask(this.#statement as Statement<T>)
  }

  end(reason: unknown): void {
    this.#session.end(reason, this.#statement?.stop?.())
  }

  async #start(): Promise<Statement<T>> {
    const statement = await this.#open()
    this.#statement = statement
    await this.#session.begin()
    await statement.start(this.#session).catch((error) => {
      this.#session.end(error)
      throw error
    })
    return statement
  }

  #ask(statement: Statement<T>): Promise<readonly T[]> {
    const batch = this.#session.ask(() => statement.read())
    // Nobody may be waiting for it yet.
    batch.catch(() => {})
    return batch
  }
}

/** Values as PostgreSQL writes them, whatever parsers are set for the whole process. */
export const asText = {
  getTypeParser: () => (value: string | null) => value
} as unknown as pg.CustomTypesConfig

/**
 * What a call says in either of its ways: a text, its values and options, or a statement of `sql` and options.
 * pg takes `undefined` for a statement that gives nothing, and something else would spoil what it sends next.
 */
export function readCall<Options extends object>(
  pool: unknown,
  statement: unknown,
  values: unknown,
  options: Options | undefined
): { statement: SqlStatement | Pick<SqlStatement, 'text' | 'values'>; options: Partial<Options> } {
  const { connect } = (pool ?? {}) as { connect?: unknown }
  // It would look like a database that is not available.
  if (typeof connect !== 'function') throw new CSV_EXPORT_INVALID_OPTION('pool', 'a pool of pg', kindOf(pool))
  if (statement instanceof SqlStatement) {
    // The signal would be passed over.
    if (Array.isArray(values) || options !== undefined) {
      throw new CSV_EXPORT_INVALID_OPTION('values', 'left out with sql, which has them', 'more arguments')
    }
    return { statement, options: (values ?? {}) as Options }
  }
  if (typeof statement !== 'string') {
    throw new CSV_EXPORT_INVALID_OPTION('text', 'a string, or a statement of sql', statement)
  }
  if (values !== undefined && !Array.isArray(values)) {
    throw new CSV_EXPORT_INVALID_OPTION('values', 'an array', kindOf(values))
  }
  return { statement: { text: statement, values: values ?? [] }, options: options ?? {} }
}

/** No more of it, as a configuration has a password. */
function kindOf(value: unknown): string {
  return value === null ? 'null' : `a value of type ${typeof value}`
}
