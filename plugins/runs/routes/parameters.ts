import type { FastifyRequest, FastifySchema } from 'fastify'
import { attempt } from '../../csv-export/guard.ts'
import { CSV_EXPORT_INFINITE_PARAMETER, CSV_EXPORT_UNKNOWN_PARAMETER } from '../errors.ts'

type Part = 'query' | 'body'

/** What came, of those requests that wait for their validation. */
const given = new WeakMap<FastifyRequest, Record<Part, unknown>>()

/**
 * Options of a route whose parameters are those of its schema and no others. Fastify's defaults drop the others silently: a
 * filter that was misspelt must not give an unfiltered report. The words are the same wherever the parameters stand.
 */
export function withParameters(schema: Pick<FastifySchema, 'querystring' | 'body'>) {
  return {
    schema,
    attachValidation: true,
    async preValidation(request: FastifyRequest): Promise<void> {
      const { query, headers } = request
      // No body asks for a report without parameters. One that has a type was there, and its parser has left it to others.
      const isSent = request.body !== undefined || headers['content-type'] !== undefined
      if (!isSent && schema.body !== undefined) request.body = {}
      const body = attempt(() => structuredClone(request.body))
      // As a form with its files, or what is nested too deep: no JSON that could be kept with a run.
      if (body === undefined) request.body = undefined
      given.set(request, { query: structuredClone({ ...(query as object) }), body })
    },
    async preHandler(request: FastifyRequest): Promise<void> {
      const { validationError } = request
      if (validationError !== undefined) {
        validationError.message = validationError.message.replace(/^(querystring|body)/, 'parameters')
        throw validationError
      }
      const before = given.get(request) as Record<Part, unknown>
      checkKept(before.query, request.query, schema.querystring)
      checkKept(before.body, request.body, schema.body)
      checkFinite({ ...(request.query as object), ...(request.body as object) })
    }
  }
}

function checkKept(before: unknown, after: unknown, schema: unknown): void {
  const name = droppedOf(before, after)
  if (name === undefined) return
  const { properties = {} } = schema as { properties?: object }
  const known = Object.keys(properties).join(', ')
  throw new CSV_EXPORT_UNKNOWN_PARAMETER(name, known === '' ? 'there are none here' : `known: ${known}`)
}

/** A text such as 1e400 passes for a number, and JSON makes null of it. */
function checkFinite(parameters: unknown, path: string[] = []): void {
  if (typeof parameters === 'number' && !Number.isFinite(parameters)) {
    throw new CSV_EXPORT_INFINITE_PARAMETER(path.join('.'))
  }
  if (!isObject(parameters)) return
  for (const [name, value] of Object.entries(parameters)) checkFinite(value, [...path, name])
}

/** The path of the first property that is no longer there. */
function droppedOf(before: unknown, after: unknown): string | undefined {
  if (!isObject(before) || !isObject(after)) return undefined
  for (const [name, value] of Object.entries(before)) {
    if (!Object.hasOwn(after, name)) return name
    const inner = droppedOf(value, after[name])
    if (inner !== undefined) return `${name}.${inner}`
  }
  return undefined
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
