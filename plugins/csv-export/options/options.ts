import {
  type DownloadOptions,
  downloadOptions,
  type HttpOptions,
  httpOptions,
  json,
  type PlainTextOptions,
  plainTextOptions,
  type ViewerOptions,
  viewerOptions
} from './http.ts'
import { boolean, type DefaultsOf, defaultsOf, type OptionsOf, option } from './option.ts'
import { type QuotingOptions, quotingOptions } from './quoting.ts'
import { type RegistrationOptions, registrationOptions } from './registration.ts'
import type { RowOf } from './row-types.ts'
import { type FileOptions, fileOptions, type RowsOptions, rowsOptions } from './rows.ts'
import { type StreamOptions, streamOptions } from './stream.ts'
import { type TextOptions, textOptions } from './text.ts'

// Which options each helper takes. An option itself is in the file of its group.

/**
 * Options of `reply.csv()`.
 * Those of csv-stringify stand under their camelCase names and mean what they mean there, but for
 * the tables of docs/csv-format.md: https://csv.js.org/stringify/options/
 */
export interface CsvOptions<Row = any>
  extends StreamOptions,
    HttpOptions,
    DownloadOptions,
    ViewerOptions,
    FileOptions,
    RowsOptions,
    TextOptions<Row>,
    QuotingOptions {}

export const csvOptions = {
  ...streamOptions,
  ...httpOptions,
  ...downloadOptions,
  ...viewerOptions,
  ...fileOptions,
  ...rowsOptions,
  ...textOptions,
  ...quotingOptions
} satisfies OptionsOf<CsvOptions>

/** Options of `reply.csv()` with arrays of rows. */
export interface BatchOptions<Row = any> extends CsvOptions<Row> {
  batches: true
}

/** Rows that are encoded already. */
interface Encoded {
  encoded: true
  /** Said where the server's default is another: nobody looks for formulas in these rows. */
  formulas?: 'keep' | undefined
}

/** Options of `reply.csv()` with rows that are encoded already: none that would change their text. */
export interface EncodedOptions
  extends StreamOptions,
    HttpOptions,
    DownloadOptions,
    ViewerOptions,
    FileOptions,
    Encoded {}

/**
 * What `reply.csv()` takes after the rows, by what they are: one signature for each count of arguments, so that the
 * compiler's messages are short.
 */
export interface CsvOptionsFor<Item> {
  rows: CsvOptions<Item> | undefined
  batches: BatchOptions<RowOf<Item>>
  encoded: EncodedOptions
  wrong: CsvOptions
}

/** Of `toCsv()` alone. */
interface OwnOptions {
  /** The `viewer` of the rows function, as JSON; there is no request to ask. @default none */
  viewer?: unknown
  /** Whether a chunk is given as soon as the rows pause; else each but the last is full. @default true */
  flush?: boolean | undefined
}

const ownOptions = { viewer: option(json), flush: option(boolean, true) } satisfies OptionsOf<OwnOptions>

/** Options of `toCsv()`: those of `reply.csv()` that are not about HTTP. */
export interface ToCsvOptions<Row = any>
  extends StreamOptions,
    FileOptions,
    RowsOptions,
    TextOptions<Row>,
    QuotingOptions,
    OwnOptions {}

export const toCsvOptions = {
  ...streamOptions,
  ...fileOptions,
  ...rowsOptions,
  ...textOptions,
  ...quotingOptions,
  ...ownOptions
} satisfies OptionsOf<ToCsvOptions>

/** Of the options of a reply or of a server, those that `toCsv()` takes. */
export function toCsvOptionsOf(options: CsvOptions | PluginOptions): ToCsvOptions {
  // Theirs is asked a request for it.
  const isTaken = (name: string) => Object.hasOwn(toCsvOptions, name) && name !== 'viewer'
  return Object.fromEntries(Object.entries(options).filter(([name]) => isTaken(name)))
}

/** As `BatchOptions`, of `toCsv()`. */
export interface BatchToCsvOptions<Row = any> extends ToCsvOptions<Row> {
  batches: true
}

/** As `EncodedOptions`, of `toCsv()`. */
export interface EncodedToCsvOptions extends StreamOptions, FileOptions, Encoded, OwnOptions {}

/** As `CsvOptionsFor`, of `toCsv()`. */
export interface ToCsvOptionsFor<Item> {
  rows: ToCsvOptions<Item> | undefined
  batches: BatchToCsvOptions<RowOf<Item>>
  encoded: EncodedToCsvOptions
  wrong: ToCsvOptions
}

/** Options given when the plugin is registered: defaults of both helpers, and what concerns the server as a whole. */
export interface PluginOptions
  extends StreamOptions,
    HttpOptions,
    DownloadOptions,
    ViewerOptions,
    FileOptions,
    TextOptions,
    QuotingOptions,
    RegistrationOptions {}

export const pluginOptions = {
  ...streamOptions,
  ...httpOptions,
  ...downloadOptions,
  ...viewerOptions,
  ...fileOptions,
  ...textOptions,
  ...quotingOptions,
  ...registrationOptions
} satisfies OptionsOf<PluginOptions>

/** Options of `reply.streamText()`. */
export interface StreamTextOptions extends StreamOptions, HttpOptions, PlainTextOptions {}

export const streamTextOptions = {
  ...streamOptions,
  ...httpOptions,
  ...plainTextOptions
} satisfies OptionsOf<StreamTextOptions>

export const csvDefaults = defaultsOf(csvOptions)
export const toCsvDefaults = defaultsOf(toCsvOptions)
export const streamTextDefaults = defaultsOf(streamTextOptions)
export const registrationDefaults = defaultsOf(registrationOptions)

/** How a file is written, with every default filled in. */
export type FileSettings = FileOptions &
  TextOptions &
  QuotingOptions &
  DefaultsOf<typeof fileOptions & typeof textOptions & typeof quotingOptions>
