import type { RegisterOptions } from 'fastify'
import { CSV_EXPORT_UNKNOWN_OPTION } from '../errors.ts'
import { downloadOptions, httpOptions } from './http.ts'
import { nearestName } from './nearest-name.ts'
import { isPlainObject, type Rule, refusal, rule } from './option.ts'
import {
  type CsvOptions,
  csvOptions,
  type PluginOptions,
  pluginOptions,
  type StreamTextOptions,
  streamTextOptions,
  type ToCsvOptions,
  toCsvOptions
} from './options.ts'
import { quotingOptions } from './quoting.ts'
import { checkTogether } from './registration.ts'
import { rowsOptions } from './rows.ts'
import { textOptions } from './text.ts'

type Rules = Readonly<Record<string, Rule<unknown>>>

/** Options that exist, but not here. */
function refused(options: Rules, expected: string): Rules {
  const rules = Object.keys(options).map((name) => [name, rule(() => false, expected)])
  return Object.fromEntries(rules)
}

const { formulas, ...others } = textOptions
const notEncoded = refused(
  { ...others, ...quotingOptions, batches: rowsOptions.batches },
  'left out with "encoded: true"'
)
const notInToCsv = refused({ ...httpOptions, ...downloadOptions }, 'left out of toCsv(), which knows no HTTP')
const notAtRegistration = refused(rowsOptions, 'given to reply.csv(), not at registration')

const anything = rule<any>(() => true, '')

/** Fastify's own, which it checks itself, and which @fastify/autoload gives to every plugin. */
export const ofFastify = {
  prefix: anything,
  logLevel: anything,
  logSerializers: anything
} satisfies Record<keyof RegisterOptions, Rule<any>>

const rulesOf = {
  csv: csvOptions,
  encodedCsv: { ...csvOptions, ...notEncoded },
  toCsv: { ...toCsvOptions, ...notInToCsv },
  encodedToCsv: { ...toCsvOptions, ...notInToCsv, ...notEncoded },
  streamText: streamTextOptions,
  registration: { ...pluginOptions, ...notAtRegistration, ...ofFastify }
} satisfies Record<string, Rules>

/** Throws CSV_EXPORT_UNKNOWN_OPTION or CSV_EXPORT_INVALID_OPTION for the first option that is wrong. */
export function checkCsvOptions(options: unknown): asserts options is CsvOptions {
  check(options, isEncoded(options) ? rulesOf.encodedCsv : rulesOf.csv)
}

/** As `checkCsvOptions`, for `toCsv()`. */
export function checkToCsvOptions(options: unknown): asserts options is ToCsvOptions {
  check(options, isEncoded(options) ? rulesOf.encodedToCsv : rulesOf.toCsv)
}

/** As `checkCsvOptions`, for `reply.streamText()`. */
export function checkStreamTextOptions(options: unknown): asserts options is StreamTextOptions {
  check(options, rulesOf.streamText)
}

/** As `checkCsvOptions`, for the options of the plugin. */
export function checkPluginOptions(options: unknown): asserts options is PluginOptions {
  check(options, rulesOf.registration)
  checkTogether(options as PluginOptions)
}

/**
 * As `checkCsvOptions`, for the options of a plugin that builds on this one.
 * @param required names that must be given
 */
export function checkOptions(options: unknown, rules: Rules, required: readonly string[]): void {
  check(options, rules)
  for (const name of required) {
    const value = (options as Record<string, unknown>)[name]
    if (value === undefined) throw refusal(name, (rules[name] as Rule<unknown>).expected, value)
  }
}

function isEncoded(options: unknown): boolean {
  return isPlainObject(options) && options.encoded === true
}

function check(options: unknown, rules: Rules): void {
  if (!isPlainObject(options)) throw refusal('options', 'an object', options)
  for (const [name, value] of Object.entries(options)) {
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined
    if (rule === undefined) {
      const nearest = nearestName(name, Object.keys(rules))
      throw new CSV_EXPORT_UNKNOWN_OPTION(name, nearest === undefined ? '' : `: did you mean "${nearest}"?`)
    }
    if (value !== undefined && !rule.accepts(value)) throw refusal(name, rule.expected, value)
  }
}
