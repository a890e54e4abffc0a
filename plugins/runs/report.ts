import type { FastifyRequest } from 'fastify'
import type { CsvOptions, SourceInput } from '../csv-export/index.ts'
import { CSV_EXPORT_INVALID_OPTION } from './errors.ts'

/** What a report's rows are made of: nothing else, as a run has no request. */
export interface ReportContext<Parameters = any, Viewer = any> {
  /** Checked by the report's schema. */
  parameters: Parameters
  /** What the report's `viewer` has made of the request. */
  viewer: Viewer
  /** Fires when the file is no longer wanted: the client is gone, the run is cancelled, a limit is reached. */
  signal: AbortSignal
}

type RowsOf<Context> =
  Extract<ReturnType<Extract<SourceInput<any>, (...args: any[]) => any>>, unknown> extends infer Items
    ? (context: Context) => Items
    : never

export interface ReportOptions<Parameters = any, Viewer = any> {
  /** In URLs: letters, digits, `-` and `_`. */
  name: string
  /**
   * A whole number, 1 or more. Raise it with every change of the report's rows or columns: a run that waited for the version
   * before then fails, and gives no other file than was asked for.
   */
  version: number
  /** JSON Schema of an object. */
  parameters: object
  /** Opens the rows, or CSV with `encoded: true`. Called anew for each reply and for each attempt of a run. */
  rows: RowsOf<ReportContext<Parameters, Viewer>>
  /** Options of `reply.csv()`. A run uses those that are not about HTTP. */
  csv?: CsvOptions
  /**
   * Gives what a request's user may see, as JSON. Asked once, at the call, and kept with a run.
   * @default that of the registration of csvExport
   */
  viewer?: (request: FastifyRequest) => Viewer
}

export interface Report<Parameters = any, Viewer = any> extends ReportOptions<Parameters, Viewer> {
  readonly csv: CsvOptions
}

/**
 * One report for every way out: a streamed reply, a run, `toCsv()`.
 *
 * @throws CSV_EXPORT_INVALID_OPTION
 * @example
 * const orders = defineReport({
 *   name: 'orders',
 *   version: 1,
 *   parameters: { type: 'object', additionalProperties: false, properties: { year: { type: 'integer' } } },
 *   rows: ({ parameters, signal }) => cursorRows(pool, 'SELECT * FROM orders WHERE year = $1', [parameters.year], { signal }),
 *   csv: { filename: 'orders.csv' }
 * })
 */
export function defineReport<Parameters = any, Viewer = any>(
  options: ReportOptions<Parameters, Viewer>
): Report<Parameters, Viewer> {
  const { name, version, parameters, rows } = options
  if (typeof name !== 'string' || !/^[\w-]+$/.test(name)) {
    throw new CSV_EXPORT_INVALID_OPTION('name', 'letters, digits, "-" and "_"', name)
  }
  if (!Number.isSafeInteger(version) || version < 1) {
    throw new CSV_EXPORT_INVALID_OPTION('version', 'a whole number, 1 or more', version)
  }
  if (typeof parameters !== 'object' || parameters === null) {
    throw new CSV_EXPORT_INVALID_OPTION('parameters', 'a JSON Schema', parameters)
  }
  if (typeof rows !== 'function') throw new CSV_EXPORT_INVALID_OPTION('rows', 'a function', rows)
  return { csv: {}, ...options }
}
