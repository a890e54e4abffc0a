import type { Options as StringifyOptions } from 'csv-stringify'
import { dialectOptionNames } from './option-rules.ts'
import { type CsvOptions, type Dialect, defined } from './options.ts'

/** Our options as csv-stringify's, copied, as it writes into what it is given. */
export function toStringifyOptions(options: CsvOptions): StringifyOptions {
  const dialect: Dialect = Object.fromEntries(
    Object.entries(options).filter(([name]) => dialectOptionNames.includes(name))
  )
  const { columns, cast, header = true, quoteRecordDelimiter = true, ...same } = dialect
  return {
    ...same,
    header,
    quote_record_delimiter: quoteRecordDelimiter,
    columns: columns?.map((column: any) => (typeof column === 'string' ? column : { ...column })),
    cast: { ...defaultCast, ...defined(cast ?? {}) }
  } as StringifyOptions
}

/** Where csv-stringify's own would surprise the reader of a report; docs/csv-format.md lists each. */
const defaultCast: StringifyOptions['cast'] = {
  boolean: String,
  date: (value) => {
    if (Number.isNaN(value.getTime())) throw new RangeError('an invalid Date')
    return value.toISOString()
  },
  object: (value) => {
    if (value instanceof Uint8Array) {
      return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64')
    }
    const text = JSON.stringify(value)
    if (text === '{}' && !isEmptyByIntent(value)) {
      throw new TypeError(
        `JSON can hold nothing of a ${value.constructor?.name}: await it, or give "cast.object"`
      )
    }
    return text
  }
}

/** Unlike a Map, a Promise or whatever else keeps its contents where JSON.stringify does not look. */
function isEmptyByIntent(value: Record<string, unknown>): boolean {
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null || typeof value.toJSON === 'function'
}
