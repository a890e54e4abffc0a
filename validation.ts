import createError from '@fastify/error'
import type { FastifyRequest, FastifyServerOptions } from 'fastify'

const MALFORMED_QUERY = createError(
  'MALFORMED_QUERY',
  'querystring: parameter "%s" must be UTF-8 in percent-encoding, got "%s"',
  400
)

/**
 * A preValidation hook. What cannot be decoded Fastify leaves as it came, and the schema would take it for a text: a filter
 * that finds nothing.
 */
export async function checkQueryEncoding({ raw, routeOptions }: FastifyRequest): Promise<void> {
  if (routeOptions.schema?.querystring === undefined) return
  // To Fastify's router a query begins after a number sign too.
  const [, query = ''] = (raw.url as string).split(/[?#](.*)/s)
  for (const parameter of query.split('&')) {
    const [name, value = ''] = parameter.split(/=(.*)/s) as [string, string?]
    if (!isPercentEncoded(name)) throw new MALFORMED_QUERY(name, name)
    if (!isPercentEncoded(value)) throw new MALFORMED_QUERY(decodeURIComponent(name), value)
  }
}

function isPercentEncoded(text: string): boolean {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

/**
 * Fastify's own defaults drop an unknown parameter silently. Here it is refused, and every message names the parameter:
 * a filter that was misspelt must not give an unfiltered report.
 */
export const validation = {
  ajv: {
    // verbose: the errors carry the value and the schema that the message speaks of.
    // strictNumbers: left on, Infinity (1e400) would pass every maximum.
    customOptions: { removeAdditional: false, verbose: true, strictNumbers: false }
  },
  schemaErrorFormatter: ([error], part) => new Error(`${part}: ${explain(error as ValidationError)}`)
} satisfies Pick<FastifyServerOptions, 'ajv' | 'schemaErrorFormatter'>

/** What ajv adds to Fastify's type of an error with `verbose`. */
interface ValidationError {
  keyword: string
  instancePath: string
  message?: string
  params: Record<string, unknown>
  data?: unknown
  parentSchema?: { properties?: Record<string, unknown> }
}

function explain({ keyword, instancePath, message, params, data, parentSchema }: ValidationError): string {
  if (keyword === 'additionalProperties') {
    const known = Object.keys(parentSchema?.properties ?? {}).join(', ')
    return `unknown parameter "${params.additionalProperty}" (${known === '' ? 'there are none' : `known: ${known}`})`
  }
  if (keyword === 'required') return `parameter "${params.missingProperty}" is missing`
  const name = instancePath.slice(1)
  return `parameter "${name}" ${message}, got ${JSON.stringify(data)}`
}
