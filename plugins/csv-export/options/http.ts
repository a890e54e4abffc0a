import type { FastifyRequest } from 'fastify'
import { isPromiseLike } from '../describe.ts'
import type { Receipt } from '../receipts/receipts.ts'
import {
  func,
  isArrayOf,
  isBoolean,
  isPlainObject,
  isString,
  maxTimerDelay,
  milliseconds,
  type OptionsOf,
  option,
  refusal,
  rule,
  string
} from './option.ts'

/** A content coding, by its name in Accept-Encoding. */
export type ContentCoding = 'zstd' | 'br' | 'gzip'

/** In the order of preference, which is that of speed on CSV (docs/performance.md). */
export const contentCodings: readonly ContentCoding[] = ['zstd', 'br', 'gzip']

/** Options of both of a reply's helpers, which mean nothing without HTTP. Times are in milliseconds. */
export interface HttpOptions {
  /** Called with the receipt of each export that ends, and its request. What it throws is logged. @default none */
  onReceipt?: ((receipt: Receipt, request: FastifyRequest) => unknown) | undefined
  /**
   * Milliseconds to wait for the first row before the status line goes out, with the headers and what is known of the
   * body. Until then an error of the source is an error reply. @default 10000
   */
  commitAfter?: number | undefined
  /**
   * Longest time, in milliseconds, in which the client takes nothing while there is something to send; 0 is no limit.
   * After it: `client_stalled`, CSV_EXPORT_CLIENT_STALLED. @default 120000
   */
  stallTimeout?: number | undefined
}

export const httpOptions = {
  onReceipt: option(func),
  commitAfter: option(milliseconds, 10_000),
  stallTimeout: option(milliseconds, 120_000)
} satisfies OptionsOf<HttpOptions>

/** Options of rows that are not everybody's. */
export interface ViewerOptions {
  /**
   * Gives what a request's user may see, as JSON: the `viewer` of the rows function. Asked once, at the call. @default none
   */
  viewer?: ((request: FastifyRequest) => unknown) | undefined
}

export const viewerOptions = { viewer: option(func) } satisfies OptionsOf<ViewerOptions>

export const json = rule<unknown>((value) => isJson(value), 'what JSON can hold')

/** Options of a file that is downloaded. */
export interface DownloadOptions {
  /** Name of the file that a browser saves. Any string is safe. @default 'export.csv' */
  filename?: string | undefined
  /**
   * The content codings that may be negotiated, in the order of preference; true is zstd, br and gzip, false none.
   * A body under 1 KiB is sent as it is, unless the client refuses that. @default true
   */
  compress?: boolean | readonly ContentCoding[] | undefined
}

export const downloadOptions = {
  filename: option(string, 'export.csv'),
  compress: option(
    rule<boolean | readonly ContentCoding[]>(
      (value) =>
        isBoolean(value) || isArrayOf(value, (coding) => contentCodings.includes(coding as ContentCoding)),
      `true, false or an array of ${contentCodings.join(', ')}`
    ),
    true
  )
} satisfies OptionsOf<DownloadOptions>

/** Text sent into a silent stream, so that nothing in between takes the connection for dead. */
export interface Heartbeat {
  /** Longest silence, in milliseconds. */
  every: number
  /** What is sent after it. */
  text: string
}

/** Options of `reply.streamText()` alone. */
export interface PlainTextOptions {
  /** The Content-Type. @default 'text/plain; charset=utf-8' */
  type?: string | undefined
  /** Text sent into a stream that has been silent for `every` milliseconds. @default none */
  heartbeat?: Heartbeat | undefined
}

export const plainTextOptions = {
  type: option(string, 'text/plain; charset=utf-8'),
  heartbeat: option(
    rule<Heartbeat>(
      (value) =>
        isPlainObject(value) &&
        isTimerDelay(value.every) &&
        isString(value.text) &&
        value.text !== '' &&
        Object.keys(value).every((name) => name === 'every' || name === 'text'),
      `{ every, text }: milliseconds between 1 and ${maxTimerDelay}, and a text that is not empty`
    )
  )
} satisfies OptionsOf<PlainTextOptions>

function isTimerDelay(value: unknown): boolean {
  return typeof value === 'number' && value >= 1 && value <= maxTimerDelay
}

/** Asks whose a request is: what a run of it, in another process, would be told too. */
export function viewerOf({ viewer }: ViewerOptions, request: FastifyRequest): unknown {
  const value = viewer?.(request)
  // JSON makes {} of a promise: a viewer who is nobody, where a lack of filters may show all rows.
  if (isPromiseLike(value)) throw refusal('viewer', 'a function that returns JSON, no promise', value)
  if (value !== undefined && !isJson(value)) throw refusal('viewer', 'a function that returns JSON', value)
  return throughJson(value)
}

/** What is left of a value where it is kept as JSON. */
export function throughJson(value: unknown): unknown {
  return value === undefined ? undefined : JSON.parse(JSON.stringify(value))
}

function isJson(value: unknown): boolean {
  try {
    return JSON.stringify(value) !== undefined
  } catch {
    return false
  }
}
