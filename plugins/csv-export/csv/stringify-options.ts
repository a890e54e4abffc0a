import type { Options as StringifyOptions } from 'csv-stringify'
import type { CsvOptions } from '../options/options.ts'
import { separatorsOf } from '../options/separators.ts'

/** Our options as csv-stringify's. Columns and casts are not among them: what a cell is, it need not know. */
export function toStringifyOptions(options: CsvOptions): StringifyOptions {
  const { bom, eof, header = true, headerAsComment, quoted, quotedEmpty, quotedMatch, quotedString } = options
  const { quoteRecordDelimiter = true } = options
  const { delimiter, quote, escape: escapeCharacter, recordDelimiter } = separatorsOf(options)
  return {
    bom,
    delimiter,
    eof,
    // It takes none for the empty text, which is in every field.
    escape: escapeCharacter || '"',
    header,
    headerAsComment,
    quote,
    quoted,
    quotedEmpty,
    quotedMatch,
    quotedString,
    quoteRecordDelimiter,
    recordDelimiter
  } as StringifyOptions
}
