import type pg from 'pg'
import type { CopyToStreamQuery } from 'pg-copy-streams'
import { CSV_EXPORT_COPY_VALUES } from './errors.ts'
import { withLiterals } from './literals.ts'
import { peer } from './peers.ts'
import type { Session } from './session.ts'
import { SqlStatement } from './sql.ts'
import { readCall, type Statement, StatementRows } from './statement-rows.ts'

export interface CopyRowsOptions {
  /** Ends the statement at once when it fires, also on the server. */
  signal?: AbortSignal | undefined
}

/**
 * The rows of one query as CSV with a header line, as PostgreSQL's own COPY makes it: pass it on with `encoded: true`.
 * Snapshot, transaction, connection and errors are as those of `cursorRows()`. A NULL is an empty cell, an empty string is `""`.
 *
 * @param pool any pool of pg, with your own options
 * @param statement of `sql`, whose values mean what they mean as parameters
 * @throws CSV_EXPORT_COPY_VALUES, CSV_EXPORT_INVALID_OPTION; from the iterator PostgreSQL's own errors,
 * CSV_EXPORT_DATABASE_UNAVAILABLE (503), CSV_EXPORT_NOT_INSTALLED without pg-copy-streams, the reason of the signal, or
 * CSV_EXPORT_INVALID_OPTION where a value stands in quotes
 * @example
 * app.get('/users.csv', (request, reply) =>
 *   reply.csv(({ signal }) => copyRows(pool, sql`SELECT id, name FROM users WHERE id > ${10}`, { signal }), { encoded: true })
 * )
 */
export function copyRows(
  pool: pg.Pool,
  statement: SqlStatement,
  options?: CopyRowsOptions
): AsyncIterable<Buffer>
/** @param values none: write them into a statement of `sql` */
export function copyRows(
  pool: pg.Pool,
  text: string,
  values?: readonly unknown[],
  options?: CopyRowsOptions
): AsyncIterable<Buffer>
export function copyRows(
  pool: pg.Pool,
  query: string | SqlStatement,
  valuesOrOptions?: readonly unknown[] | CopyRowsOptions,
  lastOptions?: CopyRowsOptions
): AsyncIterable<Buffer> {
  const { statement, options } = readCall(pool, query, valuesOrOptions, lastOptions)
  const isSql = statement instanceof SqlStatement
  if (!isSql && statement.values.length > 0) throw new CSV_EXPORT_COPY_VALUES()
  const write = async (session: Session) => (isSql ? withLiterals(session, statement) : statement.text)
  return new StatementRows(pool, () => open(write), options.signal)
}

async function open(write: (session: Session) => Promise<string>): Promise<CopyStatement> {
  const { to } = await peer('pg-copy-streams', 'copyRows()', import('pg-copy-streams'))
  return new CopyStatement(to, write)
}

class CopyStatement implements Statement<Buffer> {
  readonly #to: (text: string) => CopyToStreamQuery
  readonly #write: (session: Session) => Promise<string>
  #chunks: AsyncIterator<Buffer> | undefined

  /** @param write gives the query, without parameters */
  constructor(to: (text: string) => CopyToStreamQuery, write: (session: Session) => Promise<string>) {
    this.#to = to
    this.#write = write
  }

  async start(session: Session): Promise<void> {
    // The query may end in a comment.
    const stream = this.#to(`COPY (${await this.#write(session)}\n) TO STDOUT (FORMAT csv, HEADER)`)
    this.#chunks = stream[Symbol.asyncIterator]()
    stream.on('error', session.fail)
    await session.submit(stream)
  }

  async read(): Promise<Buffer[]> {
    const { done, value } = await (this.#chunks as AsyncIterator<Buffer>).next()
    return done ? [] : [value]
  }
}
