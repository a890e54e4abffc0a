import type pg from 'pg'
import type { CopyToStreamQuery } from 'pg-copy-streams'
import { CSV_EXPORT_COPY_VALUES } from './errors.ts'
import { peer } from './peers.ts'
import type { Session } from './session.ts'
import { checkText, type Statement, StatementRows } from './statement-rows.ts'

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
 * @throws CSV_EXPORT_COPY_VALUES, CSV_EXPORT_INVALID_OPTION; from the iterator PostgreSQL's own errors,
 * CSV_EXPORT_DATABASE_UNAVAILABLE (503), CSV_EXPORT_NOT_INSTALLED without pg-copy-streams, or the reason of the signal
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
  checkText(text)
  if (values.length > 0) throw new CSV_EXPORT_COPY_VALUES()
  return new StatementRows(pool, () => open(text), signal)
}

async function open(text: string): Promise<CopyStatement> {
  const { to } = await peer('pg-copy-streams', 'copyRows()', import('pg-copy-streams'))
  // The query may end in a comment.
  return new CopyStatement(to(`COPY (${text}\n) TO STDOUT (FORMAT csv, HEADER)`))
}

class CopyStatement implements Statement<Buffer> {
  readonly #stream: CopyToStreamQuery
  readonly #chunks: AsyncIterator<Buffer>

  constructor(stream: CopyToStreamQuery) {
    this.#stream = stream
    this.#chunks = stream[Symbol.asyncIterator]()
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
