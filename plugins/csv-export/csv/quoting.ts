import type { Stringifier } from 'csv-stringify'
import type { CurrentRecord } from './record-stringifier.ts'

/** A program may split a file for Excel at any of these, whatever it was written with. */
export const usualSeparators = ';,\t|'

/** Which fields need quotes though csv-stringify would write them without. */
export class Quoting {
  /** By the names that a cast's result may have for them. */
  readonly separators: Readonly<Record<string, string>>
  /** Whether csv-stringify quotes every field that has a text. */
  readonly isEverywhere: boolean
  readonly #quote: string
  readonly #unquotable: readonly string[]
  readonly #special: readonly string[]
  readonly #comment: string

  /** @param options csv-stringify's own */
  constructor(options: Readonly<Stringifier['options']>, excel: boolean) {
    const { quote, escape: escapeCharacter, delimiter, quote_record_delimiter } = options
    const recordDelimiter = String(options.record_delimiter)
    this.separators = {
      delimiter,
      quote,
      escape: escapeCharacter,
      recordDelimiter,
      record_delimiter: recordDelimiter
    }
    this.isEverywhere = options.quoted === true
    this.#quote = quote
    const lineEnds = quote_record_delimiter ? ['\n', '\r'] : []
    this.#unquotable = quote === '' ? [delimiter, recordDelimiter, ...lineEnds] : []
    this.#special = [
      // A reader takes what follows an escape for text, in quotes or not.
      ...(quote === '' || escapeCharacter === quote ? [] : [escapeCharacter]),
      ...(excel ? usualSeparators : [])
    ].filter((special) => special !== delimiter)
    this.#comment = commentOf(options)
  }

  /** @throws RangeError if the field needs quotes and there are none, or cannot be written with them either */
  needsQuotes(text: string, index: number, record: Readonly<CurrentRecord>): boolean {
    if (this.#unquotable.length > 0) checkUnquoted(text, this.#unquotable)
    if (this.#comment !== '' && record.kind === 'header') this.#checkComment(text)
    const needed =
      this.#hasSpecial(text) ||
      (this.#comment !== '' && record.kind === 'row' && text.includes(this.#comment)) ||
      (index === 0 &&
        (isMisreadFirst(text) || (record.width === 1 && isEndOfData(text) && this.#quote !== '')))
    if (needed && this.#quote === '')
      throw new RangeError(`${JSON.stringify(text)} needs quotes, and there are none`)
    return needed
  }

  /** A comment ends with its line, whatever is quoted in it. */
  #checkComment(text: string): void {
    if (!/[\r\n]/.test(text) && !text.includes(this.separators.recordDelimiter as string)) return
    throw new RangeError(`${JSON.stringify(text)} has a line break, which would end the comment`)
  }

  #hasSpecial(text: string): boolean {
    for (const special of this.#special) if (text.includes(special)) return true
    return false
  }
}

/** What makes a comment of the header line. A reader that is told so finds comments in later lines, and within them, too. */
export function commentOf({ header, header_as_comment }: Readonly<Stringifier['options']>): string {
  return header ? String(header_as_comment || '') : ''
}

/**
 * Whether some readers misread a first field: for one of blanks alone they skip its record, or take it for empty; U+FEFF
 * they drop as a byte order mark, wherever a piece of the file begins.
 */
export function isMisreadFirst(text: string): boolean {
  const first = text.charCodeAt(0)
  if (first > 0x20 && first < 0x7f) return false
  return first === 0xfeff || (text !== '' && text.trim() === '')
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
