import { checkOptions } from '../options/check.ts'
import { isPlainObject, type OptionsOf, option, rule } from '../options/option.ts'
import { type JsonSchema, type Property, propertiesOf, type RowSchema, schemasIn } from './row-schema.ts'

/** What is used of zod, be it zod itself or `zod/mini`. */
export interface Zod {
  string(): object
  number(): object
  optional(schema: any): object
  object(shape: any): object
}

/** Options of `csvResponse()`. */
export interface CsvResponseOptions {
  /**
   * zod, for routes whose serializer is that of fastify-type-provider-zod: it takes zod's schemas alone, whatever the rows
   * are described with. @default none: JSON Schema
   */
  zod?: Zod | undefined
  /** Schema of an error reply, where an error handler of yours makes another than Fastify's. @default Fastify's */
  error?: object | undefined
}

const responseOptions = {
  zod: option(
    rule<Zod>(
      (value) =>
        isPlainObject(value) &&
        ['string', 'number', 'optional', 'object'].every((name) => typeof value[name] === 'function'),
      'zod itself, what zod exports as z'
    )
  ),
  error: option(rule<object>((value) => typeof value === 'object' && value !== null, 'a schema'))
} satisfies OptionsOf<CsvResponseOptions>

type StatusOfError = 412 | 422 | 429 | 500 | 503 | 504

/** Those of errors.ts that are replies, and what a client can make of them. */
const errorReplies: Record<StatusOfError, string> = {
  412: 'The request asks for the rest of an export: ask for the whole, without Range.',
  422: 'The export has more rows or bytes than are allowed: ask for fewer.',
  429: 'As many exports of this client run as are allowed at a time: try again later.',
  500: 'The export failed before its first byte.',
  503: 'The server is busy or closing, or the export took too long: try again later.',
  504: 'The source of the rows gave nothing for too long.'
}

interface Described {
  description: string
  headers?: Record<string, JsonSchema>
  content: Record<string, { schema: object }>
}

/**
 * What `csvResponse()` gives: the `response` of a route's schema. What it holds has no types of its own, as Fastify's would
 * then refuse a handler that returns the reply but is not async.
 */
export type CsvResponse = Record<200 | StatusOfError, Described>

/**
 * The `response` of a route that sends CSV, for @fastify/swagger: text/csv at 200, whose description lists the columns, and
 * an error's shape at each status that the plugin's own errors have. It changes nothing of what is sent.
 *
 * @param schema as of `columnsOf()`
 * @param options see {@link CsvResponseOptions}
 * @throws CSV_EXPORT_INVALID_OPTION, CSV_EXPORT_UNKNOWN_OPTION
 * @example
 * const Order = Type.Object({ id: Type.Integer({ title: 'No.' }), total: Type.Number() })
 * app.get('/orders.csv', { schema: { response: csvResponse(Order) } }, (request, reply) =>
 *   reply.csv(orders(), { columns: columnsOf(Order) })
 * )
 * @example with fastify-type-provider-zod
 * csvResponse(Order, { zod: z })
 */
export function csvResponse(schema: RowSchema, options: CsvResponseOptions = {}): CsvResponse {
  checkOptions(options, responseOptions, [])
  const { zod, error } = options
  // Each its own: what reads them may change them.
  const shape = () => error ?? (zod === undefined ? jsonError() : zodError(zod))
  const errors = Object.entries(errorReplies).map(([status, description]): [string, Described] => [
    status,
    { description, ...headersOf(Number(status)), content: { 'application/json': { schema: shape() } } }
  ])
  const columns = propertiesOf(schema).map(lineOf).join('\n')
  const csv = {
    description: `CSV, with these columns:\n\n${columns}`,
    ...headersOf(200),
    content: { 'text/csv': { schema: zod === undefined ? { type: 'string' } : zod.string() } }
  }
  return { ...(Object.fromEntries(errors) as Record<StatusOfError, Described>), 200: csv }
}

/** Fastify's own. Nothing is required, and more is let through: what an error handler of the user sends has to pass. */
function jsonError(): object {
  const string = () => ({ type: 'string' })
  const properties = { statusCode: { type: 'integer' }, code: string(), error: string(), message: string() }
  return { type: 'object', properties, additionalProperties: true }
}

function zodError(zod: Zod): object {
  const [number, string] = [zod.number(), zod.string()]
  return zod.object({ statusCode: number, code: zod.optional(string), error: string, message: string })
}

function headersOf(status: number): { headers?: Record<string, JsonSchema> } {
  const text = (description: string) => ({ type: 'string', description })
  if (status === 200) {
    const exportId = text('Names the export, for its receipt.')
    return { headers: { 'Content-Disposition': text('The name of the file.'), 'Export-Id': exportId } }
  }
  if (status !== 429 && status !== 503) return {}
  return { headers: { 'Retry-After': { type: 'integer', description: 'Seconds.' } } }
}

/** Markdown, as descriptions are in OpenAPI. */
function lineOf({ key, schema }: Property): string {
  const { title = key, format, description } = schema
  const types = new Set(typesOf(schema))
  types.delete('null')
  const kind = `${[...types].join(' or ') || 'any'}${format === undefined ? '' : ` (${format})`}`
  return `- \`${title}\`: ${kind}${description === undefined ? '' : `. ${description}`}`
}

function typesOf({ type, anyOf, oneOf }: JsonSchema): unknown[] {
  return type === undefined ? [anyOf, oneOf].flatMap(schemasIn).flatMap(typesOf) : [type].flat()
}
