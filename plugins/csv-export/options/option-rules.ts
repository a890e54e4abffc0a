import type { RegisterOptions } from 'fastify'
import { describe } from '../describe.ts'
import { CSV_EXPORT_INVALID_OPTION, CSV_EXPORT_UNKNOWN_OPTION } from '../errors.ts'
import { nearestName } from './nearest-name.ts'
import {
  type CsvOptions,
  contentCodings,
  type Dialect,
  defined,
  type EncodedOptions,
  type EncodedToCsvOptions,
  httpOptions,
  type PluginOptions,
  pluginDefaults,
  type StreamOptions,
  type StreamTextOptions,
  type ToCsvOptions
} from './options.ts'

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

const dialectRules: Record<keyof Dialect, Rule> = {
  columns: {
    accepts: (value) => Array.isArray(value) && value.length > 0 && value.every(isColumn),
    expected:
      "a non-empty array of names or of { key, header } objects, such as ['id', { key: 'name', header: 'Name' }]"
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
  encoded: boolean,
  compress: {
    accepts: (value) =>
      isBoolean(value) || (Array.isArray(value) && value.every((coding) => contentCodings.includes(coding))),
    expected: `true, false or an array of ${contentCodings.join(', ')}`
  },
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
  encoder: {
    accepts: (value) => ['auto', 'csv-stringify'].includes(value as string),
    expected: "'auto' or 'csv-stringify'"
  },
  ...dialectRules
}

const notAtRegistration: Rule = {
  accepts: () => false,
  expected: 'given to reply.csv(), not at registration'
}

const pluginRules: Record<keyof PluginOptions | 'batches' | 'encoded', Rule> = {
  ...csvRules,
  batches: notAtRegistration,
  encoded: notAtRegistration,
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

const anything: Rule = { accepts: () => true, expected: '' }

/** Fastify's own, which it checks itself, and which @fastify/autoload gives to every plugin. */
const registerRules: Record<keyof RegisterOptions, Rule> = {
  prefix: anything,
  logLevel: anything,
  logSerializers: anything
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

const toCsvRules: Record<keyof ToCsvOptions | keyof CsvOptions, Rule> = { ...csvRules, flush: boolean }

export const dialectOptionNames = Object.keys(dialectRules)
export const streamOptionNames = Object.keys(streamRules)
export const csvOptionNames = Object.keys(csvRules)
const encodedOptionNames = Object.keys({
  ...streamRules,
  filename: true,
  chunkSize: true,
  compress: true,
  maxRows: true,
  header: true,
  encoded: true,
  formulas: true,
  flush: true
} satisfies Record<keyof EncodedOptions | keyof EncodedToCsvOptions, unknown>)
export const streamTextOptionNames = Object.keys(streamTextRules)
export const pluginOptionNames = Object.keys(pluginRules)

/** Throws CSV_EXPORT_UNKNOWN_OPTION or CSV_EXPORT_INVALID_OPTION for the first option that is wrong. */
export function checkCsvOptions(options: unknown): asserts options is CsvOptions {
  check(options, csvRules)
  checkEncoded(options as CsvOptions)
}

function checkEncoded(options: CsvOptions | ToCsvOptions): void {
  if (!options.encoded) return
  refuse(options, (name) => !encodedOptionNames.includes(name), 'left out with "encoded: true"')
}

function refuse(options: object, isRefused: (name: string) => boolean, expected: string): void {
  const [name, value] = Object.entries(defined(options)).find(([name]) => isRefused(name)) ?? []
  if (name !== undefined) throw new CSV_EXPORT_INVALID_OPTION(name, expected, describe(value))
}

/** As `checkCsvOptions`, for the options of the plugin. */
export function checkPluginOptions(options: unknown): asserts options is PluginOptions {
  check(options, { ...pluginRules, ...registerRules })
  const { maxConcurrentPerKey, concurrencyKey } = options as PluginOptions
  if (!maxConcurrentPerKey || concurrencyKey !== undefined) return
  throw new CSV_EXPORT_INVALID_OPTION('concurrencyKey', 'given with "maxConcurrentPerKey"', 'undefined')
}

/** The Promise of an async function, say, would be a key like no other, and never over its limit. */
export function checkReturned(name: 'concurrencyKey' | 'genExportId', value: unknown): void {
  if (typeof value === 'string') return
  throw new CSV_EXPORT_INVALID_OPTION(name, 'a function that returns a string', describe(value))
}

/** As `checkCsvOptions`, for `toCsv()`. */
export function checkToCsvOptions(options: unknown): asserts options is ToCsvOptions {
  check(options, toCsvRules)
  const isOfHttp = (name: string) => httpOptions.includes(name as (typeof httpOptions)[number])
  refuse(options as object, isOfHttp, 'left out of toCsv(), which knows no HTTP')
  checkEncoded(options as ToCsvOptions)
}

/** As `checkCsvOptions`, for `reply.streamText()`. */
export function checkStreamTextOptions(options: unknown): asserts options is StreamTextOptions {
  check(options, streamTextRules)
}

/** Fastify gives a hook of its close no more time than `pluginTimeout`, and then fails. */
export function closeGraceOf({ closeGrace }: PluginOptions, pluginTimeout = 10_000): number {
  const longest = pluginTimeout === 0 ? Number.POSITIVE_INFINITY : Math.max(0, pluginTimeout - 1_000)
  if (closeGrace !== undefined && closeGrace > longest) {
    const expected = `at most ${longest}, as Fastify's pluginTimeout is ${pluginTimeout}: raise that first`
    throw new CSV_EXPORT_INVALID_OPTION('closeGrace', expected, describe(closeGrace))
  }
  return closeGrace ?? Math.min(pluginDefaults.closeGrace, longest)
}

function check(options: unknown, rules: Record<string, Rule>): void {
  if (!isPlainObject(options)) throw new CSV_EXPORT_INVALID_OPTION('options', 'an object', describe(options))
  for (const [name, value] of Object.entries(options)) {
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined
    if (rule === undefined) {
      const nearest = nearestName(name, Object.keys(rules))
      throw new CSV_EXPORT_UNKNOWN_OPTION(name, nearest === undefined ? '' : `: did you mean "${nearest}"?`)
    }
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
