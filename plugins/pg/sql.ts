import { CSV_EXPORT_INVALID_OPTION } from './errors.ts'

/** A statement and its values, as `sql` makes it. pg's own `query()` takes it, too. */
export class SqlStatement {
  /** With `$1`, `$2` and so on in the place of the values. */
  readonly text: string
  readonly values: unknown[]
  readonly #strings: readonly string[]

  constructor(strings: readonly string[], values: unknown[]) {
    this.#strings = strings
    this.values = values
    this.text = this.fill(values.map((_value, index) => `$${index + 1}`))
  }

  /** The text with something else in the place of each value. */
  fill(texts: readonly string[]): string {
    return this.#strings.map((string, index) => string + (texts[index] ?? '')).join('')
  }
}

/**
 * A statement with its values in their places, for `copyRows()` and `cursorRows()`. Each is a parameter there, as pg takes it,
 * and is never a piece of SQL: it stands where PostgreSQL takes an expression, outside of quotes.
 *
 * @throws CSV_EXPORT_INVALID_OPTION for a `$1` of the text's own, or a statement for a value
 * @example
 * copyRows(pool, sql`SELECT id, name FROM users WHERE id > ${id}`)
 */
export function sql(strings: TemplateStringsArray, ...values: unknown[]): SqlStatement {
  const isTemplate = Array.isArray(strings) && 'raw' in strings
  if (!isTemplate) throw new CSV_EXPORT_INVALID_OPTION('sql', 'the tag of a template', 'a call')
  // As JavaScript gives where it does not know an escape, such as \u without digits.
  if ((strings as readonly unknown[]).includes(undefined)) {
    throw new CSV_EXPORT_INVALID_OPTION('text', 'of escapes that JavaScript knows', strings.raw.join('…'))
  }
  // One in quotes would hide that another one is not, and PostgreSQL could no longer count them.
  const own = strings.find((string) => /\$\d/.test(string))
  if (own !== undefined)
    throw new CSV_EXPORT_INVALID_OPTION(
      'text',
      'without a $1 of its own, as values stand in their places',
      own
    )
  if (values.some((value) => value instanceof SqlStatement)) {
    throw new CSV_EXPORT_INVALID_OPTION('values', 'values, and no parts of a statement', 'a statement')
  }
  return new SqlStatement(strings, values)
}
