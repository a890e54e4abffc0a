import type { Stringifier } from 'csv-stringify'
import type { FileColumn } from './cells.ts'
import type { ColumnUse } from './column-use.ts'
import type { FormulaGuard } from './formulas.ts'
import { dateText, numberText } from './plain-values.ts'
import { commentOf, isEndOfData, isMisreadFirst, usualSeparators } from './quoting.ts'

type Settings = Readonly<Stringifier['options']>

/** What is known after the first row, which is csv-stringify's. */
interface Known {
  columns: readonly FileColumn[] | undefined
  use: ColumnUse | undefined
  /** Asked of the first row only. */
  rowsHavePrototype: boolean
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
  readonly #keys: readonly string[] | undefined
  readonly #use: ColumnUse | undefined
  readonly #delimiter: string
  readonly #quote: string
  readonly #doubledQuote: string
  readonly #recordDelimiter: string
  readonly #special: RegExp
  readonly #formulas: FormulaGuard | undefined

  // V8 keeps an object without prototype as a hash table, whose keys it has to collect for a loop: only if they count.
  readonly #loopsOverKeys: boolean

  private constructor(settings: Settings, { columns, use, rowsHavePrototype, formulas, excel }: Known) {
    this.#keys = columns?.map(({ key }) => key)
    this.#use = use
    this.#loopsOverKeys = rowsHavePrototype || use?.countsKeys === true
    this.#delimiter = settings.delimiter
    this.#quote = settings.quote
    // A replacement, in which a dollar sign stands for itself if it is written twice.
    this.#doubledQuote = this.#quote === '$' ? '$$$$' : this.#quote + this.#quote
    this.#recordDelimiter = String(settings.record_delimiter)
    const separators = excel ? usualSeparators : ''
    const comment = commentOf(settings).replaceAll(/./gs, '\\$&')
    this.#special = new RegExp(
      `[\\${this.#quote}\\${this.#delimiter}\\n\\r${separators}]${comment && `|${comment}`}`
    )
    this.#formulas = formulas
  }

  /** @param settings csv-stringify's own */
  static for(settings: Settings, known: Known): PlainRows | undefined {
    const isPlain = hasPlainOptions(settings) && (known.columns ?? []).every((column) => column.isPlain)
    return isPlain ? new PlainRows(settings, known) : undefined
  }

  /**
   * The text of a row, or undefined if csv-stringify has to write it.
   * @param isOrdinary whether its properties are what they seem: none is inherited from a built-in class
   */
  encode(row: object, isOrdinary: boolean): string | undefined {
    try {
      if (Array.isArray(row)) return this.#encodeArray(row)
      return isOrdinary ? this.#encodeObject(row as Record<string, unknown>) : undefined
    } catch {
      // A getter that throws, a Date that is none: csv-stringify fails there too, and our casts say where.
      return undefined
    }
  }

  #encodeArray(row: unknown[]): string | undefined {
    const delimiter = this.#delimiter
    const length = this.#keys?.length ?? Math.max(1, row.length)
    // csv-stringify's way says what is wrong.
    if (row.length > length) return undefined
    let text = ''
    for (let index = 0; index < length; index++) {
      const field = this.#field(row[index])
      if (field === undefined) return undefined
      if (index !== 0) text += delimiter
      else if (isMisreadFirst(field)) return undefined
      text += field
    }
    this.#use?.seeCells(row)
    return this.#record(text, length)
  }

  #encodeObject(row: Record<string, unknown>): string | undefined {
    const keys = this.#keys
    if (keys === undefined) return undefined
    const use = this.#use as ColumnUse
    const delimiter = this.#delimiter
    let text = ''
    let index = 0
    let hasOtherKeys = false
    // Columns are mostly a row's keys in their order. V8 then reads each where the loop stands, without looking for it:
    // a quarter less for 60 columns. https://v8.dev/blog/fast-for-in
    if (this.#loopsOverKeys) {
      for (const key in row) {
        if (key !== keys[index]) {
          hasOtherKeys = true
          break
        }
        const field = this.#field(row[key])
        if (field === undefined) return undefined
        if (index !== 0) text += delimiter
        else if (isMisreadFirst(field)) return undefined
        text += field
        index++
      }
    }
    for (; index < keys.length; index++) {
      const field = this.#field(row[keys[index] as string])
      if (field === undefined) return undefined
      if (index !== 0) text += delimiter
      else if (isMisreadFirst(field)) return undefined
      text += field
    }
    const { unused } = use
    for (let at = unused.length - 1; at >= 0; at--) {
      if (row[keys[unused[at] as number] as string] !== undefined) use.setUsed(at)
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
    // Of a field that a blank is put around, nobody could say whether that is still to be done.
    !isMisreadFirst(settings.quote) &&
    isPlainSeparator(settings.delimiter) &&
    isPlainSeparator(settings.quote) &&
    /^[^\w+.:-]*$/.test(commentOf(settings)) &&
    ['\n', '\r\n', '\r'].includes(String(settings.record_delimiter))
  )
}

/** One character that the text of no number, boolean or date contains. */
function isPlainSeparator(separator: string): boolean {
  return /^[^\w+.:-]$/.test(separator)
}
