import type { Stringifier } from 'csv-stringify'
import { type FileColumn, isNative } from './cells.ts'
import type { Layout } from './plain/row-code.ts'
import { dateText, numbersAfter } from './plain/values.ts'
import { commentOf, isEndOfData, isMisreadFirst, usualSeparators } from './quoting.ts'
import { canMakeWriters, type FileParts, type RowWriter, rowWriterFor, type Texts } from './row-writer.ts'

type Settings = Readonly<Stringifier['options']>

/** What is known after the first row, which is csv-stringify's. */
interface Known extends FileParts {
  /** The row, or the cells that its columns made of it. */
  row: object
  columns: readonly FileColumn[] | undefined
  excel: boolean
  /** Whether the file has been found to be long. */
  isLong: boolean
}

const { getTime, toISOString } = Date.prototype
/** A library that replaces them may have been loaded before. */
const areDatesNative = isNative(getTime) && isNative(toISOString)

/**
 * Writes rows that need nothing but quoting: flat objects, or arrays if the row is one, of strings, numbers, bigints,
 * booleans, dates and nulls, under plain options. Byte for byte what csv-stringify writes for them with our casts, at a
 * fraction of its cost, as nothing is decided per field that could be decided once. Anything else is csv-stringify's.
 *
 * @param settings csv-stringify's own
 * @returns a function that may throw, where a getter of a row does; undefined if csv-stringify is to write each row
 */
export function plainRowWriter(settings: Settings, known: Known): RowWriter | undefined {
  const { row, columns, use, records, formulas, excel, isLong } = known
  // Of columns that are computed, it is given the cells.
  const isPlain =
    columns === undefined ||
    columns.every((column) => column.isPlain) ||
    columns.some((column) => column.isComputed)
  if (!isPlain || !hasPlainOptions(settings) || !canMakeWriters) return undefined
  const layout: Layout = {
    ...kindOf(row, columns),
    heedsToJSON: !records.columnsGiven,
    countsKeys: use?.countsKeys === true && !Array.isArray(row),
    guardsFormulas: formulas !== undefined,
    delimiter: settings.delimiter,
    quote: settings.quote,
    recordDelimiter: String(settings.record_delimiter),
    comment: commentOf(settings),
    excel
  }
  return rowWriterFor(layout, textsFor, known, isLong)
}

function kindOf(
  row: object,
  columns: readonly FileColumn[] | undefined
): Pick<Layout, 'keys' | 'isShortAllowed'> {
  if (!Array.isArray(row)) return { keys: (columns as FileColumn[]).map(({ key }) => key) }
  return { keys: columns?.length ?? Math.max(1, row.length), isShortAllowed: columns !== undefined }
}

function textsFor({ delimiter, quote, comment, excel }: Layout): Texts {
  const special = `[\\${quote}\\${delimiter}\\n\\r${excel ? usualSeparators : ''}]`
  const needsQuotes = new RegExp(comment === '' ? special : `${special}|${comment.replaceAll(/./gs, '\\$&')}`)
  // A replacement, in which a dollar sign stands for itself if it is written twice.
  const doubledQuote = quote === '$' ? '$$$$' : quote + quote
  const quoted = (text: string) => quote + text.replaceAll(quote, doubledQuote) + quote
  return {
    ofText: (value) => (needsQuotes.test(value) ? quoted(value) : value),
    ofNumber: numbersAfter(''),
    ofDelimiterAndNumber: numbersAfter(delimiter),
    ofOther,
    isMisreadFirst,
    isEndOfData
  }
}

/** Of what is no string, number, boolean or null. */
function ofOther(value: unknown): string | undefined {
  if (typeof value === 'bigint') return `${value}`
  // A subclass, or a library that replaces these, may write a date otherwise.
  if (
    areDatesNative &&
    value instanceof Date &&
    value.toISOString === toISOString &&
    value.getTime === getTime
  ) {
    return dateText(value.getTime())
  }
  return undefined
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
