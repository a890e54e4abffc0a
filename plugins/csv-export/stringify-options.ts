import type { Options as StringifyOptions } from 'csv-stringify'
import type { CsvOptions } from './options.ts'

/** Our options as csv-stringify's. Columns and casts are not among them: what a cell is, it need not know. */
export function toStringifyOptions(options: CsvOptions): StringifyOptions {
  const { bom, delimiter, eof, header = true, headerAsComment, quote, quoted, quotedEmpty } = options
  const { quotedMatch, quotedString, quoteRecordDelimiter = true, recordDelimiter } = options
  const same = { bom, delimiter, eof, header, headerAsComment, quote, quoted, quotedEmpty, quotedMatch }
  const { escape: escapeCharacter = quoteText(quote) } = options
  return {
    ...same,
    quotedString,
    quoteRecordDelimiter,
    recordDelimiter,
    escape: escapeCharacter
  } as StringifyOptions
}

/** Readers take a quote to be doubled in a field; without one there is nothing to escape. */
function quoteText(quote: CsvOptions['quote'] = '"'): string {
  return typeof quote === 'boolean' || quote.length === 0 ? '"' : String(quote)
}
