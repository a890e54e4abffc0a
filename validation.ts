import type { FastifyServerOptions } from 'fastify'

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
