import type { Stringifier } from 'csv-stringify'
import type { FileColumn } from './cells.ts'
import type { ColumnUse } from './column-use.ts'
import type { FormulaGuard } from './formulas.ts'
import { dateText, numberText } from './plain-values.ts'
import { isBlank, isEndOfData, usualSeparators } from './quoting.ts'

type Settings = Readonly<Stringifier['options']>

/** What is known after the first row, which is csv-stringify's. */
interface Known {
  columns: readonly FileColumn[] | undefined
  use: ColumnUse | undefined
  /** That of the first row. */
  prototype: object | null | undefined
  formulas: FormulaGuard | undefined
  excel: boolean
}

const { getTime, toISOString } = Date.prototype

/**
 * The text of rows that need nothing but quoting: flat objects or arrays of strings, numbers, bigints, booleans, dates
 * and nulls, under plain options. Byte for byte what csv-stringify writes for them with our casts, at a fraction of
 * its cost, as nothing is decided per field that could be decided once. Anything else is csv-stringify's.
 */
export class PlainRows {
  /** That of rows whose properties are what they seem: neither inherited from a built-in class nor hidden by a toJSON. */
  prototype: object | null | undefined
  readonly #keys: readonly string[] | undefined
  readonly #use: ColumnUse | undefined
  readonly #delimiter: string
  readonly #quote: string
  readonly #doubledQuote: string
  readonly #recordDelimiter: string
  readonly #special: RegExp
  readonly #formulas: FormulaGuard | undefined

  // V8 keeps an object without one as a hash table, whose keys it has to collect for a loop. Asked of the first row
  // only, as the question costs as much as a field.
  readonly #rowsHavePrototype: boolean

  private constructor(settings: Settings, { columns, use, prototype, formulas, excel }: Known) {
    this.#keys = columns?.map(({ key }) => key)
    this.#use = use
    this.prototype = prototype
    this.#rowsHavePrototype = prototype !== null
    this.#delimiter = settings.delimiter
    this.#quote = settings.quote
    // A replacement, in which a dollar sign stands for itself if it is written twice.
    this.#doubledQuote = this.#quote === '$' ? '$$$$' : this.#quote + this.#quote
    this.#recordDelimiter = String(settings.record_delimiter)
    const separators = excel ? usualSeparators : ''
    this.#special = new RegExp(`[\\${this.#quote}\\${this.#delimiter}\\n\\r${separators}]`)
    this.#formulas = formulas
  }

  /** @param settings csv-stringify's own */
  static for(settings: Settings, known: Known): PlainRows | undefined {
    const isPlain = hasPlainOptions(settings) && (known.columns ?? []).every((column) => column.isPlain)
    return isPlain ? new PlainRows(settings, known) : undefined
  }

  /** The text of a row, or undefined if csv-stringify has to write it. */
  encode(row: unknown): string | undefined {
    try {
      if (typeof row !== 'object' || row === null) return undefined
      return Array.isArray(row) ? this.#encodeArray(row) : this.#encodeObject(row as Record<string, unknown>)
    } catch {
      // A getter that throws, a Date that is none: csv-stringify fails there too, and our casts say where.
      return undefined
    }
  }

  #encodeArray(row: unknown[]): string | undefined {
    const delimiter = this.#delimiter
    const length = this.#keys?.length ?? row.length
    // csv-stringify's way says what is wrong.
    if (row.length > length) return undefined
    let text = ''
    for (let index = 0; index < length; index++) {
      const field = this.#field(row[index])
      if (field === undefined) return undefined
      if (index === 0) text = isBlank(field) ? this.#quoted(field) : field
      else {
        text += delimiter
        text += field
      }
    }
    const unused = this.#use?.unused ?? []
    for (const index of unused) if (row[index] !== undefined) this.#use?.setUsed(index)
    return this.#record(text, length)
  }

  #encodeObject(row: Record<string, unknown>): string | undefined {
    const keys = this.#keys
    if (keys === undefined) return undefined
    const use = this.#use as ColumnUse
    if (use.countsKeys && row.toJSON !== undefined) return undefined
    const delimiter = this.#delimiter
    let text = ''
    let index = 0
    let hasOtherKeys = !this.#rowsHavePrototype
    // Columns are mostly a row's keys in their order. V8 then reads each where the loop stands, without looking for it:
    // a quarter less for 60 columns. https://v8.dev/blog/fast-for-in
    if (this.#rowsHavePrototype) {
      for (const key in row) {
        if (key !== keys[index]) {
          hasOtherKeys = true
          break
        }
        const field = this.#field(row[key])
        if (field === undefined) return undefined
        if (index === 0) text = isBlank(field) ? this.#quoted(field) : field
        else {
          text += delimiter
          text += field
        }
        index++
      }
    }
    // What has each column as a property is a row, whatever it is. The question costs as much as a field.
    if (index < keys.length && Object.getPrototypeOf(row) !== this.prototype) return undefined
    for (; index < keys.length; index++) {
      const field = this.#field(row[keys[index] as string])
      if (field === undefined) return undefined
      if (index === 0) text = isBlank(field) ? this.#quoted(field) : field
      else {
        text += delimiter
        text += field
      }
    }
    const { unused } = use
    for (let at = 0; at < unused.length; at++) {
      const index = unused[at] as number
      if (row[keys[index] as string] !== undefined) use.setUsed(index)
    }
    if (hasOtherKeys && use.countsKeys) use.seeKeys(row)
    return this.#record(text, keys.length)
  }

  #record(text: string, fields: number): string {
    const isMistaken = fields === 1 && (text === '' || isEndOfData(text))
    return (isMistaken ? this.#quoted(text) : text) + this.#recordDelimiter
  }

  #quoted(field: string): string {
    return this.#quote + field + this.#quote
  }

  #field(value: unknown): string | undefined {
    switch (typeof value) {
      case 'string':
        return this.#text(value)
      case 'number':
        return numberText(value)
      case 'boolean':
        return value ? 'true' : 'false'
      case 'bigint':
        return `${value}`
      case 'undefined':
        return ''
      case 'object':
        if (value === null) return ''
        // A subclass, or a library that replaces these, may write a date otherwise.
        if (value instanceof Date && value.toISOString === toISOString && value.getTime === getTime) {
          return dateText(value.getTime())
        }
    }
    return undefined
  }

  #text(value: string): string | undefined {
    // Of all plain values only a string's text is not our own.
    const text = this.#formulas === undefined ? value : this.#formulas.guard(value)
    if (text === undefined || !this.#special.test(text)) return text
    const quote = this.#quote
    return quote + text.replaceAll(quote, this.#doubledQuote) + quote
  }
}

function hasPlainOptions(settings: Settings): boolean {
  return (
    settings.eof === true &&
    settings.quoted === false &&
    settings.quoted_empty === undefined &&
    settings.quoted_string === false &&
    settings.quoted_match === null &&
    settings.quote_record_delimiter === true &&
    settings.escape === settings.quote &&
    isPlainSeparator(settings.delimiter) &&
    isPlainSeparator(settings.quote) &&
    // Else a field in quotes would look like blanks.
    settings.quote.trim() !== '' &&
    ['\n', '\r\n', '\r'].includes(String(settings.record_delimiter))
  )
}

/** One character that the text of no number, boolean or date contains. */
function isPlainSeparator(separator: string): boolean {
  return /^[^\w+.:-]$/.test(separator)
}
