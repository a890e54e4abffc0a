import type { Stringifier } from 'csv-stringify'

/** A program may split a file for Excel at any of these, whatever it was written with. */
export const usualSeparators = ';,\t|'

/** Which fields need quotes though csv-stringify would write them without. */
export class Quoting {
  /** By the names that a cast's result may have for them. */
  readonly separators: Readonly<Record<string, string>>
  readonly #quote: string
  readonly #unquotable: readonly string[]
  readonly #special: readonly string[]
  readonly #startsPlain: boolean

  /** @param options csv-stringify's own */
  constructor(options: Readonly<Stringifier['options']>, excel: boolean) {
    const { quote, escape: escapeCharacter, delimiter, quote_record_delimiter } = options
    const recordDelimiter = String(options.record_delimiter)
    this.separators = { delimiter, quote, recordDelimiter, record_delimiter: recordDelimiter }
    this.#quote = quote
    const lineEnds = quote_record_delimiter ? ['\n', '\r'] : []
    this.#unquotable = quote === '' ? [delimiter, recordDelimiter, ...lineEnds] : []
    this.#special = [
      // A reader takes what follows an escape for text, in quotes or not.
      ...(quote === '' || escapeCharacter === quote ? [] : [escapeCharacter]),
      ...(excel ? usualSeparators : [])
    ]
    this.#startsPlain = !options.bom && !options.header_as_comment
  }

  /**
   * @param width fields in the record
   * @param isStart whether the record is the first of the file
   * @throws RangeError if the field needs quotes and there are none
   */
  needsQuotes(text: string, index: number, width: number, isStart: boolean): boolean {
    if (this.#unquotable.length > 0) checkUnquoted(text, this.#unquotable)
    const needed =
      this.#special.some((special) => text.includes(special)) ||
      (index === 0 &&
        (isBlank(text) ||
          (width === 1 && isEndOfData(text) && this.#quote !== '') ||
          // Readers drop it as a byte order mark.
          (isStart && this.#startsPlain && text.startsWith('\ufeff'))))
    if (needed && this.#quote === '')
      throw new RangeError(`${JSON.stringify(text)} needs quotes, and there are none`)
    return needed
  }
}

/** Whether a first field is nothing but blanks: then some readers skip its record, or take the field for empty. */
export function isBlank(text: string): boolean {
  const first = text.charCodeAt(0)
  return !(first > 0x20 && first < 0x7f) && text !== '' && text.trim() === ''
}

/**
 * A lone `\.` ends the data for PostgreSQL before 18. COPY TO quotes it too:
 * https://www.postgresql.org/docs/17/sql-copy.html
 */
export function isEndOfData(text: string): boolean {
  return text === '\\.'
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
