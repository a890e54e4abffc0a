import type { Stringifier } from 'csv-stringify'
import type { FormulaGuard } from './formulas.ts'
import { isInherited, isMistakenRecord } from './row-stringifier.ts'

type Settings = Stringifier['options']

const { getTime, toISOString } = Date.prototype
const dayLength = 86_400_000
/** Of the years 0 to 9999: before and after them, a year has six digits and a sign. */
const [firstDay, lastDay] = [-719_528, 2_932_896]

const table = (length: number, text: (number: number) => string): readonly string[] =>
  Array.from({ length }, (_, n) => text(n))
const padded = (number: number, digits: number): string => String(number).padStart(digits, '0')
const groups = table(1000, String)
const paddedGroups = table(1000, (n) => padded(n, 3))
const decimals = table(1000, (n) => (n === 0 ? '' : String(n / 1000).slice(1)))
const twoDigits = table(100, (n) => padded(n, 2))
const minutes = table(1440, (n) => `${padded(Math.trunc(n / 60), 2)}:${padded(n % 60, 2)}:`)
const seconds = table(60, (n) => `${padded(n, 2)}.`)
const milliseconds = table(1000, (n) => `${padded(n, 3)}Z`)

/**
 * The text of rows that need nothing but quoting: flat objects or arrays of strings, numbers, bigints, booleans, dates
 * and nulls, under plain options. Byte for byte what csv-stringify writes for them with our casts, at a fraction of
 * its cost, as nothing is decided per field that could be decided once. Anything else is csv-stringify's.
 */
export class PlainRows {
  readonly #keys: readonly string[] | undefined
  readonly #delimiter: string
  readonly #quote: string
  readonly #doubledQuote: string
  readonly #recordDelimiter: string
  readonly #special: RegExp
  readonly #formulas: FormulaGuard | undefined
  #day = Number.NaN
  #dayText = ''

  private constructor(
    settings: Settings,
    keys: readonly string[] | undefined,
    formulas: FormulaGuard | undefined
  ) {
    this.#keys = keys
    this.#delimiter = settings.delimiter
    this.#quote = settings.quote
    // A replacement, in which a dollar sign stands for itself if it is written twice.
    this.#doubledQuote = this.#quote === '$' ? '$$$$' : this.#quote + this.#quote
    this.#recordDelimiter = String(settings.record_delimiter)
    this.#special = new RegExp(`[\\${this.#quote}\\${this.#delimiter}\\n\\r]`)
    this.#formulas = formulas
  }

  /** @param settings csv-stringify's own, after it has seen the first row, so that columns are known */
  static for(settings: Settings, formulas?: FormulaGuard): PlainRows | undefined {
    const columns = settings.columns as { key: string }[] | undefined
    const keys = columns?.map(({ key }) => key)
    return hasPlainOptions(settings) && (keys ?? []).every(isPlainKey)
      ? new PlainRows(settings, keys, formulas)
      : undefined
  }

  /** The text of a row, or undefined if csv-stringify has to write it. */
  encode(row: object): string | undefined {
    try {
      return Array.isArray(row) ? this.#encodeArray(row) : this.#encodeObject(row as Record<string, unknown>)
    } catch {
      // A getter that throws, a Date that is none: csv-stringify fails there too, and our casts say where.
      return undefined
    }
  }

  #encodeArray(row: unknown[]): string | undefined {
    const length = this.#keys?.length ?? row.length
    let text = ''
    for (let index = 0; index < length; index++) {
      const field = this.#field(row[index])
      if (field === undefined) return undefined
      text += index === 0 ? field : this.#delimiter + field
    }
    return this.#record(text, length)
  }

  #encodeObject(row: Record<string, unknown>): string | undefined {
    const keys = this.#keys
    if (keys === undefined) return undefined
    let text = ''
    for (let index = 0; index < keys.length; index++) {
      const field = this.#field(row[keys[index] as string])
      if (field === undefined) return undefined
      text += index === 0 ? field : this.#delimiter + field
    }
    return this.#record(text, keys.length)
  }

  #record(text: string, fields: number): string {
    const quote = fields === 1 && isMistakenRecord(text) ? this.#quote : ''
    return quote + text + quote + this.#recordDelimiter
  }

  #field(value: unknown): string | undefined {
    switch (typeof value) {
      case 'string':
        return this.#text(value)
      case 'number':
        return numberText(value)
      case 'bigint':
      case 'boolean':
        return `${value}`
      case 'undefined':
        return ''
      case 'object':
        if (value === null) return ''
        if (value instanceof Date) return this.#date(value)
    }
    return undefined
  }

  /** As `toISOString()`, which takes five times as long. */
  #date(date: Date): string | undefined {
    // A subclass may write itself otherwise.
    if (date.getTime !== getTime || date.toISOString !== toISOString) return undefined
    const time = date.getTime()
    const day = Math.floor(time / dayLength)
    if (day !== this.#day) {
      if (!(day >= firstDay && day <= lastDay)) return undefined
      this.#day = day
      this.#dayText = dayText(day)
    }
    const rest = time - day * dayLength
    const minute = Math.trunc(rest / 60_000)
    const second = Math.trunc(rest / 1000)
    return (
      this.#dayText + minutes[minute] + seconds[second - minute * 60] + milliseconds[rest - second * 1000]
    )
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
    ['\n', '\r\n', '\r'].includes(String(settings.record_delimiter))
  )
}

/** One character that the text of no number, boolean or date contains. */
function isPlainSeparator(separator: string): boolean {
  return /^[^\w+.:-]$/.test(separator)
}

/** csv-stringify reads a key with a dot or a bracket as a path into nested objects. */
function isPlainKey(key: string): boolean {
  return !/[.[]/.test(key) && !isInherited(key)
}

/**
 * As String(value), without the cache in which V8 keeps the texts of the last numbers, from where they outlive young
 * garbage collections and swell the heap of a long export (docs/performance.md).
 */
function numberText(value: number): string {
  const thousandths = Math.round(value * 1000)
  // Of two decimals with up to 15 digits, no two are the same double: if this one is it, no shorter one is.
  if (thousandths >= 0 && thousandths < 1e12 && thousandths / 1000 === value) {
    const whole = Math.floor(thousandths / 1000)
    return wholeText(whole) + decimals[thousandths - whole * 1000]
  }
  return Number.isFinite(value) ? JSON.stringify(value) : String(value)
}

/** @param value a whole number from 0 to 999,999,999 */
function wholeText(value: number): string {
  if (value < 1000) return groups[value] as string
  const thousands = Math.floor(value / 1000)
  const rest = paddedGroups[value - thousands * 1000] as string
  if (thousands < 1000) return groups[thousands] + rest
  const millions = Math.floor(thousands / 1000)
  return (groups[millions] as string) + paddedGroups[thousands - millions * 1000] + rest
}

/** Year, month and day, with the T: https://howardhinnant.github.io/date_algorithms.html#civil_from_days */
function dayText(day: number): string {
  const shifted = day + 719_468
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153)
  const dayOfMonth = dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1
  const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  const century = Math.floor(year / 100)
  return `${twoDigits[century]}${twoDigits[year - century * 100]}-${twoDigits[month]}-${twoDigits[dayOfMonth]}T`
}
