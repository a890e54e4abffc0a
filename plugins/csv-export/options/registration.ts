import { randomUUID } from 'node:crypto'
import { validateHeaderValue } from 'node:http'
import type { FastifyRequest } from 'fastify'
import { type LogLevel, logLevels } from '../guard.ts'
import type { ReceiptStore } from '../receipts/receipts.ts'
import {
  count,
  func,
  isBoolean,
  isPlainObject,
  isString,
  milliseconds,
  type OptionsOf,
  oneOf,
  option,
  refusal,
  rule
} from './option.ts'

/** What concerns the server as a whole. */
export interface RegistrationOptions {
  /** Where receipts are kept. @default none */
  receipts?: ReceiptStore | undefined
  /**
   * The level of each receipt's line in the log; `'silent'` for none, not of those that failed either.
   * @default by its end
   */
  receiptLogLevel?: LogLevel | 'silent' | undefined
  /** Makes an export's id. It is a header and a key: printable ASCII, not to be guessed. @default crypto.randomUUID */
  genExportId?: ((request: FastifyRequest) => string) | undefined
  /** Most exports at a time in this server; over it 503, CSV_EXPORT_TOO_MANY. 0 is no limit. @default 0 */
  maxConcurrent?: number | undefined
  /** Whom an export is counted for: a user, a tenant, an address; undefined is nobody. @default none */
  concurrencyKey?: ((request: FastifyRequest) => string | undefined) | undefined
  /** Most exports of a key at a time; over it 429, CSV_EXPORT_TOO_MANY_FOR_KEY. 0 is no limit. @default 0 */
  maxConcurrentPerKey?: number | undefined
  /**
   * Milliseconds that running exports get to finish when the server closes; less than Fastify's `pluginTimeout`.
   * After it: `server_closing`, CSV_EXPORT_SERVER_CLOSING. @default 5000
   */
  closeGrace?: number | undefined
  /**
   * Adds the route that `npx fastify-csv-export probe URL` asks, with this path; true is `/csv-export-probe`. It shows
   * nothing of the server, and is bounded: 1000 rows, 1 MiB, 120 s, 8 at a time. @default false
   */
  probe?: boolean | string | undefined
}

export const registrationOptions = {
  receipts: option(
    rule<ReceiptStore>(
      (value) =>
        isPlainObject(value) &&
        ['put', 'get'].every((name) => typeof value[name] === 'function') &&
        ['function', 'undefined'].includes(typeof value.begin),
      'an object with the functions put(receipt) and get(id), such as new MemoryReceipts()'
    )
  ),
  receiptLogLevel: option(oneOf(...logLevels, 'silent')),
  genExportId: option<(request: FastifyRequest) => string>(func, () => randomUUID()),
  maxConcurrent: option(count, 0),
  concurrencyKey: option(func),
  maxConcurrentPerKey: option(count, 0),
  closeGrace: option(milliseconds, 5_000),
  probe: option(
    rule<boolean | string>(
      (value) => isBoolean(value) || (isString(value) && value.startsWith('/')),
      "true, false or a path that begins with '/'"
    ),
    false
  )
} satisfies OptionsOf<RegistrationOptions>

/** Throws CSV_EXPORT_INVALID_OPTION for options each of which is right by itself, but not all together. */
export function checkTogether({ maxConcurrentPerKey, concurrencyKey }: RegistrationOptions): void {
  if (!maxConcurrentPerKey || concurrencyKey !== undefined) return
  throw refusal('concurrencyKey', 'given with "maxConcurrentPerKey"', undefined)
}

/** The Promise of an async function, say, would be a key like no other, and never over its limit. */
export function checkReturned(name: 'concurrencyKey' | 'genExportId', value: unknown): void {
  if (typeof value !== 'string') throw refusal(name, 'a function that returns a string', value)
}

/** One that is no header would be found out while the head is written, of the error reply too. */
export function checkExportId(id: unknown): void {
  checkReturned('genExportId', id)
  try {
    validateHeaderValue('export-id', id as string)
  } catch {
    throw refusal('genExportId', 'a function that returns what a header can hold', id)
  }
}

/** Fastify gives a hook of its close no more time than `pluginTimeout`, and then fails. */
export function closeGraceOf({ closeGrace }: RegistrationOptions, pluginTimeout = 10_000): number {
  const longest = pluginTimeout === 0 ? Number.POSITIVE_INFINITY : Math.max(0, pluginTimeout - 1_000)
  if (closeGrace !== undefined && closeGrace > longest) {
    const expected = `at most ${longest}, as Fastify's pluginTimeout is ${pluginTimeout}: raise that first`
    throw refusal('closeGrace', expected, closeGrace)
  }
  return closeGrace ?? Math.min(registrationOptions.closeGrace.default, longest)
}
