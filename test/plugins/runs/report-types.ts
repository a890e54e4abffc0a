import type { JsonSchemaToTsProvider } from '@fastify/type-provider-json-schema-to-ts'
import type { FastifyRequest, FastifyTypeProvider } from 'fastify'
import { type Static, type TSchema, Type } from 'typebox'
import { defineReport, type Report } from '../../../plugins/runs/index.ts'

// What `npm run types` says of reports; the tests run them too.

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const same = <A, B>(_: Equal<A, B>): void => {}

const parameters = {
  type: 'object',
  additionalProperties: false,
  properties: { year: { type: 'integer' }, kind: { enum: ['a', 'b'] } },
  required: ['year']
} as const

interface TypeBoxProvider extends FastifyTypeProvider {
  validator: this['schema'] extends TSchema ? Static<this['schema']> : unknown
}

const common = { version: 1 } as const

/** By JSON Schema, given in place. */
export const bySchema = defineReport.withTypeProvider<JsonSchemaToTsProvider>()({
  ...common,
  name: 'by-schema',
  parameters: {
    type: 'object',
    additionalProperties: false,
    properties: { year: { type: 'integer' }, kind: { enum: ['a', 'b'] } },
    required: ['year']
  },
  viewer: (request) => ({ tenant: String(request.headers.tenant) }),
  *rows({ parameters, viewer, signal }) {
    same<typeof parameters, { year: number; kind?: 'a' | 'b' }>(true)
    same<typeof viewer, { tenant: string }>(true)
    same<typeof signal, AbortSignal>(true)
    yield { year: parameters.year, tenant: viewer.tenant }
  }
})

/** By JSON Schema that has a name. */
export const byNamedSchema = defineReport.withTypeProvider<JsonSchemaToTsProvider>()({
  ...common,
  name: 'by-named-schema',
  parameters,
  rows: ({ parameters }) => {
    // @ts-expect-error: no such parameter
    parameters.month
    return [{ year: parameters.year }]
  }
})

/** By TypeBox. */
export const byTypeBox = defineReport.withTypeProvider<TypeBoxProvider>()({
  ...common,
  name: 'by-typebox',
  parameters: Type.Object({ year: Type.Integer() }, { additionalProperties: false }),
  rows: ({ parameters }) => {
    same<typeof parameters, { year: number }>(true)
    return [{ year: parameters.year }]
  }
})

/** By hand. */
export const byHand = defineReport<{ year: number }, string>({
  ...common,
  name: 'by-hand',
  parameters,
  viewer: (request: FastifyRequest) => request.id,
  rows: ({ parameters, viewer }) => [{ year: parameters.year.toFixed(), viewer: viewer.trim() }],
  csv: { columns: ['year'], filename: undefined }
})

/** Without types. */
export const untyped = defineReport({
  ...common,
  name: 'untyped',
  parameters,
  rows: ({ parameters, viewer }) => [{ year: parameters.year, all: viewer.all }]
})

export const reports: readonly Report[] = [bySchema, byNamedSchema, byTypeBox, byHand, untyped]

export const wrong = [
  // @ts-expect-error: no rows
  () => defineReport({ ...common, name: 'x', parameters }),
  // @ts-expect-error: no version
  () => defineReport({ name: 'x', parameters, rows: () => [] }),
  // @ts-expect-error: its name is the report's
  () => defineReport({ ...common, name: 'x', parameters, rows: () => [], csv: { report: 'y' } }),
  // @ts-expect-error: the report has it itself
  () => defineReport({ ...common, name: 'x', parameters, rows: () => [], csv: { viewer: () => 1 } }),
  // @ts-expect-error: rows are objects or arrays
  () => defineReport({ ...common, name: 'x', parameters, rows: 5 })
]
