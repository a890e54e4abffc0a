import type pg from 'pg'
import { to as copyTo } from 'pg-copy-streams'
import { CSV_EXPORT_COPY_VALUES } from './errors.ts'
import type { Session } from './session.ts'
import { checkArguments, type Statement, StatementRows } from './statement-rows.ts'

export interface CopyRowsOptions {
  /** Ends the statement at once when it fires, also on the server. */
  signal?: AbortSignal | undefined
}

/**
 * The rows of one query as CSV with a header line, as PostgreSQL's own COPY makes it: pass it on with `encoded: true`.
 * Snapshot, transaction, connection and errors are as those of `cursorRows()`.
 *
 * @param pool any pool of pg, with your own options
 * @param values none, as COPY takes no parameters
 * @throws CSV_EXPORT_COPY_VALUES, CSV_EXPORT_INVALID_OPTION; from the iterator PostgreSQL's own errors, CSV_EXPORT_DATABASE_UNAVAILABLE (503), or
 * the reason of the signal
 * @example
 * app.get('/users.csv', (request, reply) =>
 *   reply.csv(({ signal }) => copyRows(pool, 'SELECT id, name FROM users', [], { signal }), { encoded: true })
 * )
 */
export function copyRows(
  pool: pg.Pool,
  text: string,
  values: readonly unknown[] = [],
  { signal }: CopyRowsOptions = {}
): AsyncIterable<Buffer> {
  checkArguments(pool, text, values)
  if (values.length > 0) throw new CSV_EXPORT_COPY_VALUES()
  return new StatementRows(pool, () => new CopyStatement(text), signal)
}

class CopyStatement implements Statement<Buffer> {
  readonly #stream: ReturnType<typeof copyTo>
  readonly #chunks: AsyncIterator<Buffer>

  constructor(text: string) {
    // The query may end in a comment.
    this.#stream = copyTo(`COPY (${text}\n) TO STDOUT (FORMAT csv, HEADER)`)
    this.#chunks = this.#stream[Symbol.asyncIterator]()
  }

  async start(session: Session): Promise<void> {
    this.#stream.on('error', session.fail)
    await session.submit(this.#stream)
  }

  async read(): Promise<Buffer[]> {
    const { done, value } = await this.#chunks.next()
    return done ? [] : [value]
  }
}
