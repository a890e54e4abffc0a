import { text } from 'node:stream/consumers'
import t from 'tap'
import { Type } from 'typebox'
import { z } from 'zod'
import * as mini from 'zod/mini'
import { columnsOf, type RowSchema, toCsv } from '../../../../plugins/csv-export/index.ts'

const address = {
  type: 'object',
  properties: { city: { type: 'string' }, zip: { title: 'Postcode' } }
} as const

const schemas = {
  'JSON Schema': {
    type: 'object',
    properties: { id: { type: 'integer', title: 'No.' }, total: { type: 'number' }, when: {} }
  },
  TypeBox: Type.Object({
    id: Type.Integer({ title: 'No.' }),
    total: Type.Optional(Type.Number()),
    when: Type.Union([Type.String({ format: 'date-time' }), Type.Null()])
  }),
  zod: z.object({
    id: z.bigint().meta({ title: 'No.' }),
    total: z.number().nullable(),
    when: z.date().optional()
  }),
  // As those of ArkType are.
  'a schema that is a function': Object.assign(() => {}, {
    '~standard': {
      jsonSchema: { output: () => ({ properties: { id: { title: 'No.' }, total: {}, when: true } }) }
    }
  })
}

for (const [name, schema] of Object.entries<RowSchema>(schemas)) {
  t.test(`${name}: gives columns, in order, with titles as headers`, async (t) => {
    t.same(columnsOf(schema), [{ key: 'id', header: 'No.' }, { key: 'total' }, { key: 'when' }])
  })
}

t.test('a file has these columns, whatever order and further keys its rows have', async (t) => {
  const when = new Date(0)
  const rows = [{ secret: 1, when, total: 1.5, id: 7n }]
  const file = await text(toCsv(rows, { columns: columnsOf(schemas.zod) }))
  t.equal(file, `No.,total,when\n7,1.5,${when.toISOString()}\n`)
})

t.test('rows that are arrays take the columns in their order', async (t) => {
  const rows = [[1, 2.5, 'now']]
  t.equal(await text(toCsv(rows, { columns: columnsOf(schemas.TypeBox) })), 'No.,total,when\n1,2.5,now\n')
})

t.test('the properties of a nested object are columns with a path', async (t) => {
  const row = { id: 1, home: { city: 'Porto', zip: '4000' }, tags: ['a'], extra: { any: 1 } }
  const columns = [
    { key: 'id' },
    { key: 'home.city' },
    { key: 'home.zip', header: 'Postcode' },
    { key: 'tags' },
    { key: 'extra' }
  ]
  const nested: Record<string, RowSchema> = {
    plain: { properties: { id: {}, home: address, tags: { type: 'array' }, extra: { type: 'object' } } },
    'beside null': {
      properties: { id: {}, home: { anyOf: [{ type: 'null' }, address] }, tags: {}, extra: {} }
    },
    'with conditions': {
      properties: { id: {}, home: { ...address, anyOf: [{ required: ['city'] }] }, tags: {}, extra: {} }
    },
    'by reference': {
      $defs: { 'a/b c': { oneOf: [address] } },
      properties: { id: {}, home: { $ref: '#/$defs/a~1b%20c' }, tags: {}, extra: {} }
    } as RowSchema,
    'all by reference': {
      $ref: '#/definitions/row',
      definitions: { row: { properties: { id: {}, home: address, tags: {}, extra: {} } } }
    } as unknown as RowSchema,
    zod: z.object({
      id: z.number(),
      home: z
        .object({ city: z.string(), zip: z.string().meta({ title: 'Postcode' }).nullable() })
        .meta({ id: 'Address', title: 'Address' })
        .nullable(),
      tags: z.array(z.string()),
      extra: z.record(z.string(), z.number())
    })
  }
  for (const [name, schema] of Object.entries(nested)) t.same(columnsOf(schema), columns, name)
  const file = await text(toCsv([row, { ...row, home: null }], { columns: columnsOf(nested.plain) }))
  t.equal(
    file,
    'id,home.city,Postcode,tags,extra\n' +
      '1,Porto,4000,"[""a""]","{""any"":1}"\n1,,,"[""a""]","{""any"":1}"\n'
  )
})

t.test('an object of which no properties are told is one column', async (t) => {
  const schema = Type.Object({
    id: Type.Integer(),
    extra: Type.Object({}),
    more: Type.Record(Type.String(), Type.Any())
  })
  t.same(columnsOf(schema), [{ key: 'id' }, { key: 'extra' }, { key: 'more' }])
})

t.test('a property in two places is a column in each', async (t) => {
  const schema = { $defs: { address }, properties: { home: { $ref: '#/$defs/address' }, work: address } }
  t.same(
    columnsOf(schema).map(({ key }) => key),
    ['home.city', 'home.zip', 'work.city', 'work.zip']
  )
})

t.test('a title stands with the property or with what it refers to, and the first counts', async (t) => {
  const money = { title: 'Money', type: 'number' }
  const titles = (property: object) =>
    columnsOf({ $defs: { money }, properties: { a: property } } as { properties: { a: object } })[0]?.header
  t.equal(titles({ $ref: '#/$defs/money' }), 'Money')
  t.equal(titles({ $ref: '#/$defs/money', title: 'Price' }), 'Price')
  t.equal(titles({ anyOf: [money, { type: 'null' }] }), 'Money')
  t.equal(titles({ title: 5 }), undefined)
})

t.test('what has no columns is refused, and the property named', async (t) => {
  const node: Record<string, unknown> = { properties: { name: {} } }
  Object.assign(node.properties as object, { children: node })
  const Tree = z.object({
    id: z.number(),
    get parent() {
      return Tree.nullable()
    }
  })
  const refused: [schema: unknown, message: RegExp][] = [
    [undefined, /"schema" must be JSON Schema, or .* got undefined/],
    ['object', /got "object"/],
    [mini.object({ id: mini.number() }), /zod\/mini does not/],
    [{}, /"schema" must be the schema of an object with one property or more/],
    [{ properties: {} }, /one property or more/],
    [z.string(), /one property or more/],
    [{ allOf: [address] }, /"schema" must be one object/],
    [{ properties: { id: {} }, anyOf: [address] }, /"schema" must be one object/],
    [{ properties: { home: { allOf: [address, {}] } } }, /property "home" of the schema/],
    [{ properties: { home: { anyOf: [address, { type: 'string' }] } } }, /"home" .* must be one object/],
    [{ properties: { a: { properties: { b: { oneOf: [{}, address] } } } } }, /property "a\.b"/],
    [{ properties: { home: { $ref: 'address#' } } }, /property "home" .* must be without a \$ref to another/],
    [{ properties: { home: { $ref: '#/$defs/none' } } }, /got "#\/\$defs\/none"/],
    [{ properties: { a: { properties: { 'b.c': {} } } } }, /property "a\.b\.c" .* must be without '\.'/],
    [node, /property "children" of the schema" must be a schema that does not contain itself/],
    [Tree, /property "parent" .* does not contain itself/],
    [{ properties: { a: { $ref: '#/properties/a' } } }, /property "a" .* does not contain itself/]
  ]
  for (const [schema, message] of refused) {
    t.throws(
      () => columnsOf(schema as RowSchema),
      { code: 'CSV_EXPORT_INVALID_OPTION', message },
      String(message)
    )
  }
})
