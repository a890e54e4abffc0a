import type { FastifyRequest, FastifyTypeProvider } from 'fastify'
import type { CsvOptions, SourceInput } from '../csv-export/index.ts'
import { checkCsvOptions, checkOptions } from '../csv-export/options/check.ts'
import { func, isPlainObject, type OptionsOf, option, rule } from '../csv-export/options/option.ts'

/** What a report's rows are made of: nothing else, as a run has no request. */
export interface ReportContext<Parameters = any, Viewer = any> {
  /** Checked by the report's schema. */
  parameters: Parameters
  /** What the report's `viewer` has made of the request. */
  viewer: Viewer
  /** Fires when the file is no longer wanted: the client is gone, the run is cancelled, a limit is reached. */
  signal: AbortSignal
}

/** The report has these itself. */
type CsvOptionsOfReport = Omit<CsvOptions, 'viewer' | 'report'>

/** What a function that opens the rows of `reply.csv()` gives. */
type OpenedRows = ReturnType<Extract<SourceInput<any>, (...args: any[]) => any>>

export interface ReportOptions<Parameters = any, Viewer = any, Schema = object> {
  /** In URLs: letters, digits, `-` and `_`. */
  name: string
  /**
   * A whole number, 1 or more. Raise it with every change of the report's rows or columns: a run that waited for the version
   * before then fails, and gives no other file than was asked for.
   */
  version: number
  /** JSON Schema of an object. What it does not know is refused, and never dropped, where it says `additionalProperties: false`. */
  parameters: Schema
  /**
   * Gives what a request's user may see, as JSON. Asked once, at the call, and kept with a run.
   * @default that of the registration of csvExport
   */
  viewer?: ((request: FastifyRequest) => Viewer) | undefined
  /** Opens the rows, or CSV with `encoded: true`. Called anew for each reply and for each attempt of a run. */
  rows: (context: ReportContext<Parameters, Viewer>) => OpenedRows
  /** Options of `reply.csv()`. A run uses those that are not about HTTP. @default {} */
  csv?: CsvOptionsOfReport | undefined
}

export interface Report<Parameters = any, Viewer = any> extends ReportOptions<Parameters, Viewer> {
  readonly csv: CsvOptionsOfReport
}

const reportOptions = {
  name: option(
    rule<string>(
      (value) => /^[\w-]+$/.test(String(value)) && typeof value === 'string',
      'letters, digits, "-" and "_"'
    )
  ),
  version: option(
    rule<number>(
      (value) => Number.isSafeInteger(value) && (value as number) >= 1,
      'a whole number, 1 or more'
    )
  ),
  parameters: option(rule<object>(isPlainObject, 'a JSON Schema of an object')),
  viewer: option(func),
  rows: option(func),
  csv: option(
    rule<CsvOptionsOfReport>(
      (value) => isPlainObject(value) && value.viewer === undefined && value.report === undefined,
      'an object without "viewer" and "report": the first stands beside it, the second is the "name"'
    ),
    {}
  )
} satisfies OptionsOf<ReportOptions>

/** What the parameters are that a schema lets pass. */
type ParametersOf<Provider extends FastifyTypeProvider, Schema> = (Provider & { schema: Schema })['validator']

/** `defineReport` whose parameters have the type of their schema. */
export type DefineTypedReport<Provider extends FastifyTypeProvider> = <
  const Schema extends object,
  Viewer = any
>(
  options: ReportOptions<ParametersOf<Provider, Schema>, Viewer, Schema>
) => Report<ParametersOf<Provider, Schema>, Viewer>

/**
 * One report for every way out: a streamed reply, a run, `toCsv()`.
 *
 * @throws CSV_EXPORT_INVALID_OPTION, CSV_EXPORT_UNKNOWN_OPTION
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
  checkOptions(options, reportOptions, ['name', 'version', 'parameters', 'rows'])
  const { csv = {} } = options
  checkCsvOptions(csv)
  return { ...options, csv }
}

/**
 * Gives `defineReport` with the types that a type provider of Fastify makes of the schema of the parameters.
 * @example
 * const orders = defineReport.withTypeProvider<JsonSchemaToTsProvider>()({
 *   name: 'orders',
 *   version: 1,
 *   parameters: { type: 'object', properties: { year: { type: 'integer' } }, required: ['year'] },
 *   // number
 *   rows: ({ parameters }) => ordersOf(parameters.year)
 * })
 */
defineReport.withTypeProvider = <Provider extends FastifyTypeProvider>(): DefineTypedReport<Provider> =>
  defineReport as DefineTypedReport<Provider>
