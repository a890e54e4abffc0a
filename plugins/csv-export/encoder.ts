import type { Cast, CastReturnObject } from 'csv-stringify'
import { CSV_EXPORT_FORMULA, CSV_EXPORT_INVALID_CHUNK, CSV_EXPORT_INVALID_ROW } from './errors.ts'
import { FormulaGuard } from './formulas.ts'
import { textOf } from './guard.ts'
import { type CsvOptions, defined } from './options.ts'
import { PlainRows } from './plain-rows.ts'
import { RowStringifier } from './row-stringifier.ts'
import { describe } from './source.ts'
import { toStringifyOptions } from './stringify-options.ts'

/** Turns the items of one reply into text, in order. Knows nothing of HTTP. */
export interface Encoder<T> {
  /** Items encoded so far. */
  readonly count: number
  /** The text of one item. Throws an error that says its number. */
  encode(item: T): string | Uint8Array
  /** Cells so far, header cells among them, that `formulas: 'escape'` put a `'` in front of. */
  readonly escapedCells: number
  /** What stands before the first item and is known without it; '' after the first. May be left uncalled. */
  begin(): string
  /** What remains to be written after the last item. */
  end(): string
}

/** Rows to CSV text: one csv-stringify stringifier a reply, and a shorter way for rows that need nothing but quoting. */
export class CsvEncoder implements Encoder<unknown> {
  count = 0
  readonly #formulas: FormulaGuard | undefined
  readonly #stringifier: RowStringifier
  readonly #unquotable: readonly string[]
  readonly #plainRowsWanted: boolean
  readonly #endMark: string | undefined
  #plainRows: PlainRows | undefined
  #firstRowLength = 1
  #ending = false

  constructor(settings: CsvOptions) {
    const options = toStringifyOptions(settings)
    this.#formulas = FormulaGuard.for(settings.formulas)
    // Not without need, as they cost a call a cell.
    const sameText =
      this.#formulas || settings.quote !== undefined ? { string: String, number: String, bigint: String } : {}
    const guarded = ['string', 'object', ...Object.keys(defined(settings.cast ?? {}))]
    options.cast = Object.fromEntries(
      Object.entries({ ...sameText, ...options.cast }).map(([type, cast]) => [
        type,
        this.#checked(cast as Cast<unknown>, guarded.includes(type))
      ])
    )
    this.#stringifier = new RowStringifier(options)
    this.#unquotable = this.#stringifier.unquotable
    this.#plainRowsWanted = settings.encoder !== 'csv-stringify' && settings.cast === undefined
    this.#endMark = settings.endMark
  }

  get escapedCells(): number {
    return this.#formulas?.escapedCells ?? 0
  }

  encode(row: unknown): string {
    if (typeof row !== 'object' || row === null || row instanceof Promise) {
      throw this.#invalid(`yield an object or an array, got ${describe(row)}`)
    }
    try {
      const text = this.#encodePlain(row) ?? this.#stringify(row)
      this.count++
      return text
    } catch (error) {
      if (isOwn(error)) throw error
      const column = this.#stringifier.unwritableColumn(row)
      throw this.#invalid(this.#inColumn(column, error), error)
    }
  }

  begin(): string {
    return this.count === 0 ? this.#stringifier.begin() : ''
  }

  end(): string {
    try {
      return this.begin() + (this.#endMark === undefined ? '' : this.#endRecord(this.#endMark))
    } catch (error) {
      throw isOwn(error) ? error : this.#invalid(messageOf(error), error, 'end')
    }
  }

  #endRecord(mark: string): string {
    const stringifier = this.#stringifier
    const width = stringifier.columns?.length ?? this.#firstRowLength
    // No row has told the columns, so there is no header to write.
    if (stringifier.needsColumns) stringifier.options.header = false
    this.#ending = true
    return this.#stringifyRecord(
      Array.from({ length: width }, (_, index) => (index === 0 ? `${mark} ${this.count}` : ''))
    )
  }

  #encodePlain(row: object): string | undefined {
    if (this.#plainRows === undefined) return undefined
    const escapedCells = this.escapedCells
    const text = this.#plainRows.encode(row)
    // What was escaped before the row turned out not to be plain is escaped, and counted, once more.
    if (text === undefined && this.#formulas !== undefined) this.#formulas.escapedCells = escapedCells
    return text
  }

  #stringify(row: object): string {
    if (this.count === 0 && Array.isArray(row) && this.#stringifier.needsColumns) {
      throw this.#invalid('an array has no column names: give "columns", or "header: false"')
    }
    const text = this.#stringifyRecord(row)
    if (this.count === 0 && Array.isArray(row)) this.#firstRowLength = row.length
    if (this.count === 0 && this.#plainRowsWanted) {
      this.#plainRows = PlainRows.for(this.#stringifier.options, row, this.#formulas)
    }
    return text
  }

  #stringifyRecord(record: object): string {
    // The header is made again with the first record, and its cells are counted again, if begin() has written it.
    if (this.count === 0 && this.#formulas !== undefined) this.#formulas.escapedCells = 0
    return this.#stringifier.stringify(record)
  }

  /** A cast that says where it fails, as csv-stringify does not, and whose text can be written and passes the guard. */
  #checked(cast: Cast<unknown>, guarded: boolean): Cast<unknown> {
    const formulas = guarded ? this.#formulas : undefined
    return (value, context) => {
      const where = context.header ? 'header' : this.#ending ? 'end' : `row ${this.count + 1}`
      try {
        const result = cast(value, context)
        const text = castText(result)
        if (!text) return result
        // The end mark is the server's own text, and its readers look for it as it was given.
        const exempt = formulas === undefined || (this.#ending && !context.header)
        const safe = exempt ? text : formulas.guard(text)
        if (safe === undefined) throw new CSV_EXPORT_FORMULA(where, this.#columnName(context.index))
        if (this.#unquotable.length > 0) checkUnquoted(safe, this.#unquotable)
        return typeof result === 'string' ? safe : { ...(result as CastReturnObject), value: safe }
      } catch (error) {
        throw isOwn(error) ? error : this.#invalid(this.#inColumn(context.index, error), error, where)
      }
    }
  }

  #inColumn(index: number | undefined, error: unknown): string {
    return index === undefined ? messageOf(error) : `column ${this.#columnName(index)}: ${messageOf(error)}`
  }

  /** Its key, or its number when there are only arrays. */
  #columnName(index: number): string {
    const column = this.#stringifier.columns?.[index]
    return column === undefined ? String(index + 1) : JSON.stringify(column.key)
  }

  #invalid(reason: string, cause?: unknown, where = `row ${this.count + 1}`): Error {
    const error = new CSV_EXPORT_INVALID_ROW(where, reason)
    if (cause !== undefined) error.cause = cause
    return error
  }
}

/** The text that a cast returned. csv-stringify itself writes nothing for some results that are none: `{ value: 0 }`. */
function castText(result: unknown): string | null | undefined {
  const text = isObject(result) ? result.value : result
  if (text === undefined || text === null || typeof text === 'string') return text
  throw new TypeError(
    `a cast returned ${describe(text)} instead of a string, { value: string }, null or undefined`
  )
}

/** A reader would find a separator in the field, or one made of the field's end and the separator after it. */
function checkUnquoted(text: string, separators: readonly string[]): void {
  for (const separator of separators) {
    if ((text + separator).indexOf(separator) === text.length) continue
    throw new RangeError(
      `a field contains ${JSON.stringify(separator)}, and there is no quote to put around it`
    )
  }
}

function isObject(value: unknown): value is { value?: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isOwn(error: unknown): boolean {
  return error instanceof CSV_EXPORT_INVALID_ROW || error instanceof CSV_EXPORT_FORMULA
}

function messageOf(error: unknown): string {
  return textOf(error)
}

/** Text chunks as they are. */
export class ChunkEncoder implements Encoder<unknown> {
  count = 0
  readonly escapedCells = 0

  encode(chunk: unknown): string | Uint8Array {
    this.count++
    if (typeof chunk === 'string' || chunk instanceof Uint8Array) return chunk
    throw new CSV_EXPORT_INVALID_CHUNK(this.count, describe(chunk))
  }

  begin(): string {
    return ''
  }

  end(): string {
    return ''
  }
}
