import t from 'tap'
import { messagesOf } from '../compiler.ts'

const subjects = `
import type { JsonSchemaToTsProvider } from '@fastify/type-provider-json-schema-to-ts'
import type { FastifyInstance, FastifyReply, FastifyTypeProvider } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { type Static, type TSchema, Type } from 'typebox'
import { z } from 'zod'
import { columnsOf, csvResponse, toCsv } from '#root/plugins/csv-export/index.ts'
declare const reply: FastifyReply
declare const app: FastifyInstance
interface TypeBoxProvider extends FastifyTypeProvider {
  serializer: this['schema'] extends TSchema ? Static<this['schema']> : unknown
}
const boxes = app.withTypeProvider<TypeBoxProvider>()
const jsons = app.withTypeProvider<JsonSchemaToTsProvider>()
const zods = app.withTypeProvider<ZodTypeProvider>()
const box = Type.Object({ id: Type.Integer(), weight: Type.Optional(Type.Number()), when: Type.String(), port: Type.Union([Type.Object({ name: Type.String() }), Type.Null()]) })
const zod = z.object({ id: z.int(), weight: z.number().optional(), when: z.date(), port: z.object({ name: z.string() }).nullable() })
const json = { type: 'object', properties: { id: {}, weight: {}, when: { type: 'string' }, port: { properties: { name: {} } } } } as const
declare const open: { properties: Record<string, object> }
interface Cargo { id: number; weight?: number; when: Date; port: { name: string } | null; more: string }
declare const cargoes: AsyncIterable<Cargo>
declare const batches: AsyncIterable<Cargo[]>
declare const arrays: AsyncIterable<string[]>
declare const ofBox: AsyncIterable<Static<typeof box>>
declare const ofZod: AsyncIterable<z.infer<typeof zod>>
declare const misspelt: AsyncIterable<Omit<Cargo, 'weight'> & { wieght: number }>
declare const flat: AsyncIterable<Omit<Cargo, 'port'> & { port: string }>
`

/** A wrong call, and what has to be in its message. */
const wrong: [call: string, message: RegExp][] = [
  ...['box', 'zod', 'json'].flatMap((name): [string, RegExp][] => [
    [
      `reply.csv(misspelt, { columns: columnsOf(${name}) })`,
      /'"weight"' is not assignable .*Did you mean '"wieght"'/
    ],
    [`toCsv(misspelt, { columns: columnsOf(${name}) })`, /'"weight"' is not assignable/],
    [`reply.csv(flat, { columns: columnsOf(${name}) })`, /'`port\.\$\{string\}`' is not assignable/],
    [`columnsOf(${name})[0]?.key === 'wieght'`, /have no overlap/]
  ]),
  [
    'reply.csv([{ id: 1, wieght: 2 }], { columns: columnsOf(Type.Pick(box, ["id", "weight"])) })',
    /'"weight"'/
  ],
  ['reply.csv(cargoes, { columns: [...columnsOf(zod), "wieght"] })', /'"wieght"' is not assignable/],
  ['reply.csv(cargoes, { columns: columnsOf({ properties: { id: {}, wieght: {} } }) })', /'"wieght"'/],
  ['columnsOf(5)', /'number' is not assignable to parameter of type 'RowSchema'/],
  ['csvResponse(box, { zodd: z })', /'zodd' does not exist/],
  ['csvResponse(box, { zod: 5 })', /'number' is not assignable to type 'Zod/]
]

const right = [
  ...['box', 'zod', 'json', 'open'].flatMap((name) => [
    `reply.csv(cargoes, { columns: columnsOf(${name}) })`,
    `reply.csv(batches, { batches: true, columns: columnsOf(${name}) })`,
    `reply.csv(arrays, { columns: columnsOf(${name}) })`,
    `toCsv(cargoes, { columns: columnsOf(${name}) })`
  ]),
  'reply.csv(ofBox, { columns: columnsOf(box) })',
  'reply.csv(ofZod, { columns: columnsOf(zod) })',
  'reply.csv(cargoes, { columns: columnsOf(z.looseObject({ id: z.int() })) })',
  'reply.csv(cargoes, { columns: [...columnsOf(zod), "more", { key: "any", value: (row) => row.more.length }] })',
  'reply.csv(cargoes, { columns: columnsOf(box).map((column) => (column.key === "weight" ? { ...column, mask: () => true } : column)) })',
  'boxes.get("/", { schema: { response: csvResponse(box) } }, (_request, reply) => reply.csv(cargoes, { columns: columnsOf(box) }))',
  'jsons.get("/", { schema: { response: csvResponse(json) } }, (_request, reply) => reply.csv(cargoes, { columns: columnsOf(json) }))',
  'jsons.get("/", { schema: { response: csvResponse(json) } }, async (_request, reply) => reply.csv(cargoes))',
  'zods.get("/", { schema: { response: csvResponse(zod, { zod: z }) } }, (_request, reply) => reply.csv(cargoes, { columns: columnsOf(zod) }))',
  'boxes.get("/", { schema: { response: csvResponse(box) } }, async (_request, reply) => reply.csv(cargoes))',
  'zods.get("/", { schema: { response: csvResponse(zod, { zod: z, error: z.object({ reason: z.string() }) }) } }, (_request, reply) => reply.code(500).send({ reason: "none" }))',
  'app.get("/", { schema: { response: { ...csvResponse(zod), 404: { type: "null" } } } }, async (_request, reply) => reply.csv(cargoes))'
]

t.test('columns of a schema do not compile with rows of other keys', async (t) => {
  const calls = [...wrong.map(([call]) => call), ...right]
  const messages = await messagesOf(t, `${subjects}${calls.join('\n')}\n`)
  const first = subjects.split('\n').length
  for (const [index, [call, message]] of wrong.entries()) {
    const lines = messages.get(first + index) ?? []
    t.match(lines.join('\n'), message, call)
    t.ok(lines.length >= 1 && lines.length <= 7, `${call}: ${lines.length} lines`)
  }
  for (const [index, call] of right.entries()) {
    t.equal(messages.get(first + wrong.length + index)?.join('\n'), undefined, call)
  }
})
