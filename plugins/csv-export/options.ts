import { randomUUID } from 'node:crypto'
import type { Options as StringifyOptions } from 'csv-stringify'
import { closest } from 'fastest-levenshtein'
import type { FastifyRequest } from 'fastify'
import { CSV_EXPORT_INVALID_OPTION, CSV_EXPORT_UNKNOWN_OPTION } from './errors.ts'
import type { Heartbeat } from './pump.ts'
import type { Receipt, ReceiptStore } from './receipts.ts'
import { describe } from './source.ts'

type AnyRow = Record<string, any> | readonly unknown[]

/** A column's key in a row: a property, or the path of a nested one such as `address.city`. Arrays take any name. */
export type ColumnKey<Row> = [Row] extends [never]
  ? string
  : Row extends readonly unknown[]
    ? string
    : {
        [K in Extract<keyof Row, string>]: NonNullable<Row[K]> extends object
          ? K | `${K}.${string}` | `${K}[${string}`
          : K
      }[Extract<keyof Row, string>]

/** A column by its key, or by its key and the name that the header gives it. */
export type Column<Row> = ColumnKey<Row> | { key: ColumnKey<Row>; header?: string }

/** Options of both helpers. Times are in milliseconds; where it says so, 0 is no limit. */
export interface StreamOptions {
  /** What a receipt calls this export. @default the route's path, such as '/users/:id/orders.csv' */
  report?: string
  /** Whether the receipt has the body's SHA-256. @default false */
  digest?: boolean
  /** Called with the receipt of each export that ends, and its request. What it throws is logged. @default none */
  onReceipt?: (receipt: Receipt, request: FastifyRequest) => unknown
  /**
   * Milliseconds to wait for the first row before the status line goes out, with the headers and what is known of the
   * body. Until then an error of the source is an error reply. @default 10000
   */
  commitAfter?: number
  /**
   * Longest wait for the next row, in milliseconds; 0 is no limit. After it: `source_stalled`,
   * CSV_EXPORT_SOURCE_STALLED. @default 300000
   */
  sourceTimeout?: number
  /**
   * Longest time, in milliseconds, in which the client takes nothing while there is something to send; 0 is no limit.
   * After it: `client_stalled`, CSV_EXPORT_CLIENT_STALLED. @default 120000
   */
  stallTimeout?: number
  /**
   * Longest time of the whole export, in milliseconds; 0 is no limit. After it: `limit_reached`,
   * CSV_EXPORT_MAX_DURATION. @default 0
   */
  maxDuration?: number
  /** Most bytes of the body; 0 is no limit. Over it: `limit_reached`, CSV_EXPORT_MAX_BYTES. @default 0 */
  maxBytes?: number
}

/**
 * Options of `reply.csv()`.
 * Those of csv-stringify stand under their camelCase names and mean what they mean there: https://csv.js.org/stringify/options/
 */
export interface CsvOptions<Row = any> extends StreamOptions {
  /** Name of the file that a browser saves. Any string is safe. @default 'export.csv' */
  filename?: string
  /**
   * Text is joined up to this many characters before it is sent, sooner when the source pauses.
   * @default 32768
   */
  chunkSize?: number
  /** Whether `rows` gives arrays of rows, as database drivers fetch them. @default false */
  batches?: boolean
  /** Most rows; 0 is no limit. Over it: `limit_reached`, CSV_EXPORT_MAX_ROWS. @default 0 */
  maxRows?: number
  /**
   * Text that begins one last record, which ends with the number of rows: for clients that cannot see a broken
   * connection. @default none
   */
  endMark?: string
  /** The columns, in order. @default the keys of the first row, if it is an object */
  columns?: readonly Column<Row>[]
  /** Whether a line of column names comes first. @default true */
  header?: boolean
  /** Text before the header line that makes it a comment; true is `#`. @default false */
  headerAsComment?: boolean | string | Buffer
  /** Whether a byte order mark comes first, which Excel needs to read UTF-8. @default false */
  bom?: boolean
  /** What stands between two fields. @default ',' */
  delimiter?: string | Buffer
  /** What ends a record: a string, or `unix`, `mac`, `windows`, `ascii`, `unicode`. @default '\n' */
  recordDelimiter?: string | Buffer
  /** Whether a lone CR or LF in a field makes it quoted, whatever ends a record. @default true */
  quoteRecordDelimiter?: boolean
  /** Whether the last record is ended too. @default true */
  eof?: boolean
  /** The quote; false or '' for none: a field with a separator in it is then an error. @default '"' */
  quote?: string | Buffer | boolean
  /** What stands before a quote inside a quoted field. @default '"' */
  escape?: string | Buffer
  /** Whether every non-empty field is quoted. @default false */
  quoted?: boolean
  /**
   * Whether empty fields are quoted; overrides `quotedString` for empty strings. Left out, only a field that would make a
   * blank line is. @default undefined
   */
  quotedEmpty?: boolean
  /** Whether every string is quoted. @default false */
  quotedString?: boolean
  /** Fields that contain one of these strings or match one of these patterns are quoted. @default none */
  quotedMatch?: string | RegExp | (string | RegExp)[] | false
  /**
   * What happens to text, in a cell or in the header, that a spreadsheet would run as a formula: it is written as it is
   * (`keep`), gets a `'` in front (`escape`) or fails the export with CSV_EXPORT_FORMULA (`reject`). Numbers and phone
   * numbers are no formulas: docs/csv-format.md. @default 'keep' @example 'escape'
   */
  formulas?: 'keep' | 'escape' | 'reject'
  /**
   * Stands for `bom: true`, `recordDelimiter: '\r\n'` and `formulas: 'escape'`; what is given beside it wins.
   * @default false @example { excel: true, delimiter: ';' }
   */
  excel?: boolean
  /** Functions that turn a value of a type into text. @default see docs/csv-format.md */
  cast?: StringifyOptions['cast']
}

/** Options given when the plugin is registered: defaults of both helpers, and what concerns the server as a whole. */
export interface PluginOptions extends CsvOptions {
  /** Where receipts are kept. @default none */
  receipts?: ReceiptStore
  /** Makes an export's id. It is a header and a key: printable ASCII, not to be guessed. @default crypto.randomUUID */
  genExportId?: (request: FastifyRequest) => string
  /** Most exports at a time in this server; over it 503, CSV_EXPORT_TOO_MANY. 0 is no limit. @default 0 */
  maxConcurrent?: number
  /** Whom an export is counted for: a user, a tenant, an address. @default none */
  concurrencyKey?: (request: FastifyRequest) => string
  /** Most exports of a key at a time; over it 429, CSV_EXPORT_TOO_MANY_FOR_KEY. 0 is no limit. @default 0 */
  maxConcurrentPerKey?: number
  /**
   * Milliseconds that running exports get to finish when the server closes; less than Fastify's `pluginTimeout`.
   * After it: `server_closing`, CSV_EXPORT_SERVER_CLOSING. @default 5000
   */
  closeGrace?: number
}

/** Options of `reply.streamText()`. */
export interface StreamTextOptions extends StreamOptions {
  /** The Content-Type. @default 'text/plain; charset=utf-8' */
  type?: string
  /** Text sent into a stream that has been silent for `every` milliseconds. @default none */
  heartbeat?: Heartbeat
}

type Dialect = Omit<
  CsvOptions,
  keyof StreamOptions | 'filename' | 'chunkSize' | 'batches' | 'maxRows' | 'endMark' | 'formulas' | 'excel'
>

/** What a Node timer can wait: above it, it would fire at once. */
const maxTimerDelay = 2 ** 31 - 1

interface Rule {
  accepts: (value: unknown) => boolean
  expected: string
}

const isString = (value: unknown) => typeof value === 'string'
const isBoolean = (value: unknown) => typeof value === 'boolean'
const isText = (value: unknown) => isString(value) || Buffer.isBuffer(value)
const isPattern = (value: unknown) => isString(value) || value instanceof RegExp
const isPlainObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const string: Rule = { accepts: isString, expected: 'a string' }
const boolean: Rule = { accepts: isBoolean, expected: 'true or false' }
const delimiter: Rule = {
  accepts: (value) => isText(value) && (value as string | Buffer).length > 0,
  expected: 'a string or a Buffer that is not empty'
}

const count: Rule = {
  accepts: (value) => Number.isSafeInteger(value) && (value as number) >= 0,
  expected: 'a whole number, 0 or more'
}
const milliseconds: Rule = {
  accepts: (value) => typeof value === 'number' && value >= 0 && value <= maxTimerDelay,
  expected: `a number of milliseconds between 0 and ${maxTimerDelay}`
}
const func: Rule = { accepts: (value) => typeof value === 'function', expected: 'a function' }

const castTypes = ['string', 'number', 'bigint', 'boolean', 'date', 'object', 'null', 'undefined']

const streamRules: Record<keyof StreamOptions, Rule> = {
  report: string,
  digest: boolean,
  onReceipt: func,
  commitAfter: milliseconds,
  sourceTimeout: milliseconds,
  stallTimeout: milliseconds,
  maxDuration: milliseconds,
  maxBytes: count
}

/** Options that are csv-stringify's own. */
const dialectRules: Record<keyof Dialect, Rule> = {
  columns: {
    accepts: (value) => Array.isArray(value) && value.every(isColumn),
    expected:
      "an array of names or of { key, header } objects, such as ['id', { key: 'name', header: 'Name' }]"
  },
  header: boolean,
  headerAsComment: {
    accepts: (value) => isBoolean(value) || isText(value),
    expected: 'a boolean, a string or a Buffer'
  },
  bom: boolean,
  delimiter,
  recordDelimiter: delimiter,
  quoteRecordDelimiter: boolean,
  eof: boolean,
  quote: {
    accepts: (value) => isBoolean(value) || isText(value),
    expected: 'a boolean, a string or a Buffer'
  },
  escape: {
    accepts: (value) => isText(value) && String(value).length === 1,
    expected: 'a string or a Buffer of one character'
  },
  quoted: boolean,
  quotedEmpty: boolean,
  quotedString: boolean,
  quotedMatch: {
    accepts: (value) => value === false || (Array.isArray(value) ? value.every(isPattern) : isPattern(value)),
    expected: 'a string, a RegExp or an array of them'
  },
  cast: {
    accepts: (value) =>
      isPlainObject(value) &&
      Object.entries(value).every(
        ([type, cast]) => castTypes.includes(type) && (cast === undefined || typeof cast === 'function')
      ),
    expected: `an object of functions named ${castTypes.join(', ')}`
  }
}

const csvRules: Record<keyof CsvOptions, Rule> = {
  ...streamRules,
  filename: string,
  chunkSize: count,
  batches: boolean,
  maxRows: count,
  endMark: {
    accepts: (value) => isString(value) && value !== '',
    expected: 'a string that is not empty'
  },
  formulas: {
    accepts: (value) => ['keep', 'escape', 'reject'].includes(value as string),
    expected: "'keep', 'escape' or 'reject'"
  },
  excel: boolean,
  ...dialectRules
}

const pluginRules: Record<keyof PluginOptions, Rule> = {
  ...csvRules,
  receipts: {
    accepts: (value) =>
      isPlainObject(value) && ['put', 'get'].every((name) => typeof value[name] === 'function'),
    expected: 'an object with the functions put(receipt) and get(id), such as new MemoryReceipts()'
  },
  genExportId: func,
  maxConcurrent: count,
  concurrencyKey: func,
  maxConcurrentPerKey: count,
  closeGrace: milliseconds
}

const streamTextRules: Record<keyof StreamTextOptions, Rule> = {
  ...streamRules,
  type: string,
  heartbeat: {
    accepts: (value) =>
      isPlainObject(value) &&
      isTimerDelay(value.every) &&
      isString(value.text) &&
      value.text !== '' &&
      Object.keys(value).every((name) => name === 'every' || name === 'text'),
    expected: '{ every, text }: milliseconds between 1 and 2147483647, and a text that is not empty'
  }
}

/** Where an option has a default of ours; csv-stringify's have theirs. */
export const pluginDefaults = {
  filename: 'export.csv',
  chunkSize: 32_768,
  batches: false,
  commitAfter: 10_000,
  sourceTimeout: 300_000,
  stallTimeout: 120_000,
  maxDuration: 0,
  maxRows: 0,
  maxBytes: 0,
  digest: false,
  genExportId: (_request: FastifyRequest): string => randomUUID(),
  maxConcurrent: 0,
  maxConcurrentPerKey: 0,
  closeGrace: 5_000
} satisfies PluginOptions

/** Fastify gives a hook of its close no more time than `pluginTimeout`, and then fails. */
export function closeGraceOf({ closeGrace }: PluginOptions, pluginTimeout = 10_000): number {
  if (pluginTimeout === 0) return closeGrace ?? pluginDefaults.closeGrace
  const longest = Math.max(0, pluginTimeout - 1_000)
  if (closeGrace !== undefined && closeGrace > longest) {
    const expected = `at most ${longest}, as Fastify's pluginTimeout is ${pluginTimeout}: raise that first`
    throw new CSV_EXPORT_INVALID_OPTION('closeGrace', expected, describe(closeGrace))
  }
  return closeGrace ?? Math.min(pluginDefaults.closeGrace, longest)
}

/** Throws CSV_EXPORT_UNKNOWN_OPTION or CSV_EXPORT_INVALID_OPTION for the first option that is wrong. */
export function checkCsvOptions(options: unknown): asserts options is CsvOptions {
  check(options, csvRules)
}

/** As `checkCsvOptions`, for the options of the plugin. */
export function checkPluginOptions(options: unknown): asserts options is PluginOptions {
  check(options, pluginRules)
}

/** As `checkCsvOptions`, for `reply.streamText()`. */
export function checkStreamTextOptions(options: unknown): asserts options is StreamTextOptions {
  check(options, streamTextRules)
}

/** Our options as csv-stringify's, copied, as it writes into what it is given. */
export function toStringifyOptions(options: CsvOptions): StringifyOptions {
  const dialect: Dialect = Object.fromEntries(
    Object.entries(options).filter(([name]) => Object.hasOwn(dialectRules, name))
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

function check(options: unknown, rules: Record<string, Rule>): void {
  if (!isPlainObject(options)) throw new CSV_EXPORT_INVALID_OPTION('options', 'an object', describe(options))
  for (const [name, value] of Object.entries(options)) {
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined
    if (rule === undefined) throw new CSV_EXPORT_UNKNOWN_OPTION(name, closest(name, Object.keys(rules)))
    if (value === undefined || rule.accepts(value)) continue
    throw new CSV_EXPORT_INVALID_OPTION(name, rule.expected, describe(value))
  }
}

function isColumn(column: unknown): boolean {
  if (isString(column)) return true
  return (
    isPlainObject(column) &&
    isString(column.key) &&
    column.key !== '' &&
    (column.header === undefined || isString(column.header)) &&
    Object.keys(column).every((name) => name === 'key' || name === 'header')
  )
}

function isTimerDelay(value: unknown): boolean {
  return typeof value === 'number' && value >= 1 && value <= maxTimerDelay
}

/** Without the properties that are undefined: an option left undefined is an option not given. */
export function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>
}

export type { AnyRow }
export const streamOptionNames = Object.keys(streamRules)
export const csvOptionNames = Object.keys(csvRules)
export const streamTextOptionNames = Object.keys(streamTextRules)
export const pluginOptionNames = Object.keys(pluginRules)
