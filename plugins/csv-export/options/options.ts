import { randomUUID } from 'node:crypto'
import type { Options as StringifyOptions } from 'csv-stringify'
import type { FastifyRequest } from 'fastify'
import type { Receipt, ReceiptStore } from '../receipts/receipts.ts'

/** A content coding, by its name in Accept-Encoding. */
export type ContentCoding = 'zstd' | 'br' | 'gzip'

/** In the order of preference, which is that of speed on CSV (docs/performance.md). */
export const contentCodings: readonly ContentCoding[] = ['zstd', 'br', 'gzip']

/** Text sent into a silent stream, so that nothing in between takes the connection for dead. */
export interface Heartbeat {
  /** Longest silence, in milliseconds. */
  every: number
  /** What is sent after it. */
  text: string
}

export type AnyRow = Record<string, any> | readonly unknown[]

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
export type Column<Row> = ColumnKey<Row> | { key: ColumnKey<Row>; header?: string | undefined }

/** Options of both helpers. Times are in milliseconds; where it says so, 0 is no limit. */
export interface StreamOptions {
  /** What a receipt calls this export. @default the route's path, such as '/users/:id/orders.csv' */
  report?: string | undefined
  /** Whether the receipt has the body's SHA-256. @default false */
  digest?: boolean | undefined
  /** Called with the receipt of each export that ends, and its request. What it throws is logged. @default none */
  onReceipt?: ((receipt: Receipt, request: FastifyRequest) => unknown) | undefined
  /**
   * Milliseconds to wait for the first row before the status line goes out, with the headers and what is known of the
   * body. Until then an error of the source is an error reply. @default 10000
   */
  commitAfter?: number | undefined
  /**
   * Longest wait for the next row, in milliseconds; 0 is no limit. After it: `source_stalled`,
   * CSV_EXPORT_SOURCE_STALLED. @default 300000
   */
  sourceTimeout?: number | undefined
  /**
   * Longest time, in milliseconds, in which the client takes nothing while there is something to send; 0 is no limit.
   * After it: `client_stalled`, CSV_EXPORT_CLIENT_STALLED. @default 120000
   */
  stallTimeout?: number | undefined
  /**
   * Longest time of the whole export, in milliseconds; 0 is no limit. After it: `limit_reached`,
   * CSV_EXPORT_MAX_DURATION. @default 0
   */
  maxDuration?: number | undefined
  /** Most bytes of the body; 0 is no limit. Over it: `limit_reached`, CSV_EXPORT_MAX_BYTES. @default 0 */
  maxBytes?: number | undefined
}

/**
 * Options of `reply.csv()`.
 * Those of csv-stringify stand under their camelCase names and mean what they mean there, but for
 * the tables of docs/csv-format.md: https://csv.js.org/stringify/options/
 */
export interface CsvOptions<Row = any> extends StreamOptions {
  /** Name of the file that a browser saves. Any string is safe. @default 'export.csv' */
  filename?: string | undefined
  /**
   * Text is joined up to about this many bytes before it is sent, sooner when the source pauses.
   * @default 65536
   */
  chunkSize?: number | undefined
  /** Whether `rows` gives arrays of rows, as database drivers fetch them. @default false */
  batches?: boolean | undefined
  /**
   * Whether `rows` gives CSV that is encoded already, as strings or Buffers, such as a database's COPY: it is sent as it
   * is. `header` then says whether it begins with a header line. Options that would change the text are refused, those
   * given at registration do not apply; but a registered `formulas` other than 'keep' has to be taken back by the call.
   * @default false
   */
  encoded?: boolean | undefined
  /**
   * The content codings that may be negotiated, in the order of preference; true is all of them, false none.
   * A body under 1 KiB is sent as it is, unless the client refuses that. @default true: ['zstd', 'br', 'gzip']
   */
  compress?: boolean | readonly ContentCoding[] | undefined
  /** Most rows; 0 is no limit. Over it: `limit_reached`, CSV_EXPORT_MAX_ROWS. @default 0 */
  maxRows?: number | undefined
  /**
   * Text that begins one last record, which ends with the number of rows: for clients that cannot see a broken
   * connection. @default none
   */
  endMark?: string | undefined
  /** The columns, in order, one or more. @default the keys of the first row, if it is an object */
  columns?: readonly Column<Row>[] | undefined
  /** Whether a line of column names comes first. @default true */
  header?: boolean | undefined
  /** Text before the header line that makes it a comment; true is `#`. Fields that contain it are quoted. @default false */
  headerAsComment?: boolean | string | Buffer | undefined
  /** Whether a byte order mark comes first, which Excel needs to read UTF-8. @default false */
  bom?: boolean | undefined
  /** What stands between two fields. Separators that overlap are refused: docs/csv-format.md. @default ',' */
  delimiter?: string | Buffer | undefined
  /** What ends a record: a string, or `unix`, `mac`, `windows`, `ascii`, `unicode`. @default '\n' */
  recordDelimiter?: string | Buffer | undefined
  /** Whether a lone CR or LF in a field makes it quoted, whatever ends a record. @default true */
  quoteRecordDelimiter?: boolean | undefined
  /** Whether the last record is ended too. @default true */
  eof?: boolean | undefined
  /** The quote, one character; false or '' for none: a field with a separator in it is then an error. @default '"' */
  quote?: string | Buffer | boolean | undefined
  /** What stands before a quote inside a quoted field: one character. @default what `quote` is */
  escape?: string | Buffer | undefined
  /** Whether every non-empty field is quoted. @default false */
  quoted?: boolean | undefined
  /**
   * Whether empty fields are quoted; overrides `quotedString` for empty strings. Left out, only a field that would make a
   * blank line is. @default undefined
   */
  quotedEmpty?: boolean | undefined
  /** Whether every string is quoted. @default false */
  quotedString?: boolean | undefined
  /** Fields that contain one of these strings or match one of these patterns are quoted. @default none */
  quotedMatch?: string | RegExp | (string | RegExp)[] | false | undefined
  /**
   * What happens to text, in a cell or in the header, that a spreadsheet would run as a formula: it is written as it is
   * (`keep`), gets a `'` in front (`escape`) or fails the export with CSV_EXPORT_FORMULA (`reject`). Numbers and phone
   * numbers are no formulas: docs/csv-format.md. @default 'keep' @example 'escape'
   */
  formulas?: 'keep' | 'escape' | 'reject' | undefined
  /**
   * Stands for `bom: true`, `recordDelimiter: '\r\n'` and `formulas: 'escape'`; what is given beside it wins. Fields with a
   * comma, a semicolon, a tab or a `|` are quoted, whatever the delimiter is.
   * @default false @example { excel: true, delimiter: ';' }
   */
  excel?: boolean | undefined
  /**
   * Who writes the rows: csv-stringify, or a shorter way of ours wherever it writes the same (`auto`).
   * @default 'auto'
   */
  encoder?: 'auto' | 'csv-stringify' | undefined
  /** Functions that turn a value of a type into text. @default see docs/csv-format.md */
  cast?: StringifyOptions['cast'] | undefined
}

/** Options of `reply.csv()` with rows that are encoded already: none that would change their text. */
export interface EncodedOptions
  extends StreamOptions,
    Pick<CsvOptions, 'filename' | 'chunkSize' | 'compress' | 'maxRows' | 'header'> {
  encoded: true
  /** Said where the server's default is another: nobody looks for formulas in these rows. */
  formulas?: 'keep' | undefined
}

/** What is about HTTP, and means nothing to a script. */
export const httpOptions = ['filename', 'compress', 'commitAfter', 'stallTimeout', 'onReceipt'] as const
type HttpOptions = (typeof httpOptions)[number]

/** Options of `toCsv()`: those of `reply.csv()` that are not about HTTP. */
export interface ToCsvOptions<Row = any> extends Omit<CsvOptions<Row>, HttpOptions> {
  /** Whether a chunk is given as soon as the rows pause; else each but the last is full. @default true */
  flush?: boolean | undefined
}

/** As `EncodedOptions`, of `toCsv()`. */
export interface EncodedToCsvOptions extends Omit<EncodedOptions, HttpOptions> {
  flush?: boolean | undefined
}

/** Options given when the plugin is registered: defaults of both helpers, and what concerns the server as a whole. */
export interface PluginOptions extends Omit<CsvOptions, 'batches' | 'encoded'> {
  /** Where receipts are kept. @default none */
  receipts?: ReceiptStore | undefined
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
}

/** Options of `reply.streamText()`. */
export interface StreamTextOptions extends StreamOptions {
  /** The Content-Type. @default 'text/plain; charset=utf-8' */
  type?: string | undefined
  /** Text sent into a stream that has been silent for `every` milliseconds. @default none */
  heartbeat?: Heartbeat | undefined
}

/** The options that are csv-stringify's own. */
export type Dialect = Omit<
  CsvOptions,
  | keyof StreamOptions
  | 'filename'
  | 'chunkSize'
  | 'batches'
  | 'encoded'
  | 'compress'
  | 'maxRows'
  | 'endMark'
  | 'formulas'
  | 'excel'
  | 'encoder'
>

/** Where an option has a default of ours; csv-stringify's have theirs. */
export const pluginDefaults = {
  filename: 'export.csv',
  chunkSize: 65_536,
  batches: false as boolean,
  encoded: false as boolean,
  compress: true as boolean | readonly ContentCoding[],
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
} satisfies PluginOptions & CsvOptions

/** Without the properties that are undefined: an option left undefined is an option not given. */
export function defined<T extends object>(options: T): { [Name in keyof T]?: Exclude<T[Name], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T
}
