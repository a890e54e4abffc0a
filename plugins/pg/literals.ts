import type pg from 'pg'
import { CSV_EXPORT_INVALID_OPTION } from './errors.ts'
import type { Session } from './session.ts'
import type { SqlStatement } from './sql.ts'
import { asText } from './statement-rows.ts'

const name = 'fastify_csv_export'
// With the type modifier -1, not NULL: "character" alone would be a character(1).
const types = `SELECT pg_catalog.format_type(type, -1)
  FROM pg_catalog.pg_prepared_statements, pg_catalog.unnest(parameter_types) WITH ORDINALITY AS parameters (type, position)
  WHERE name = '${name}' ORDER BY position`

/**
 * A statement with its values written into it, for what takes no parameters. PostgreSQL itself says of which type each
 * parameter is where it stands, takes its value from pg as one, and writes that as a literal: so it means the same, and
 * nothing here has to know how a value becomes text, what has to be escaped, or where quotes begin.
 *
 * @throws PostgreSQL's own errors; CSV_EXPORT_INVALID_OPTION where a value stands in quotes or in a comment
 */
export async function withLiterals(session: Session, statement: SqlStatement): Promise<string> {
  const { text, values } = statement
  if (values.length === 0) return text
  // One after the other, in one request: all that is prepared is gone before anything else can use the connection.
  const results = await ask(session, { text: `PREPARE ${name} AS ${text}\n;${types}; DEALLOCATE ${name}` })
  const typeNames = texts((results as unknown as pg.QueryArrayResult[]).at(-2))
  if (typeNames.length !== values.length) {
    const expected = 'a statement whose values stand outside of quotes and comments'
    throw new CSV_EXPORT_INVALID_OPTION('text', expected, `${typeNames.length} of ${values.length} there`)
  }
  const rows = typeNames.map((type, index) => `(pg_catalog.format('%L', $${index + 1}::${type}))`)
  const literals = await prepared(values, async (values) =>
    texts(await ask(session, { text: `VALUES ${rows.join(', ')}`, values }))
  )
  return statement.fill(literals.map((literal, index) => `(CAST(${literal} AS ${typeNames[index]}))`))
}

/**
 * Sends values of which some may not be preparable, such as a bigint in JSON: what they throw is no failure of the connection,
 * for which pg and a session would take it.
 */
async function prepared<T>(values: readonly unknown[], send: (values: unknown[]) => Promise<T>): Promise<T> {
  let failure: { error: unknown } | undefined
  const watched = values.map((value) => ({
    toPostgres(prepare: (value: unknown) => unknown): unknown {
      try {
        return prepare(value)
      } catch (error) {
        failure = { error }
        throw error
      }
    }
  }))
  return send(watched).catch((error) => {
    throw failure === undefined ? error : failure.error
  })
}

function ask(session: Session, query: pg.QueryConfig): Promise<pg.QueryArrayResult> {
  return session.ask((client) => client.query({ ...query, rowMode: 'array', types: asText }))
}

/** The one column of a result. */
function texts(result: pg.QueryArrayResult | undefined): string[] {
  return (result as pg.QueryArrayResult).rows.map(([text]) => text)
}
