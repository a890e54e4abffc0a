import fc from 'fast-check'
import Fastify from 'fastify'
import t from 'tap'
import csvExport, { type Column, type Receipt, toCsv } from '../../../../plugins/csv-export/index.ts'
import { bothWays, encode } from './encoding.ts'

interface Item {
  id: number
  name: string
  price: number
  count: number
}

const items: Item[] = [
  { id: 1, name: 'Steel', price: 2.5, count: 4 },
  { id: 2, name: 'Say "x"', price: 3, count: 0 }
]

const total: Column<Item> = { key: 'total', header: 'Total', value: ({ price, count }) => price * count }

async function textOf(chunks: AsyncIterable<Buffer>): Promise<string> {
  let text = ''
  for await (const chunk of chunks) text += chunk
  return text
}

for (const encoder of bothWays) {
  t.test(`a column's function gives its cell, as it would stand in a row: ${encoder}`, async (t) => {
    const columns = [
      'id',
      total,
      { key: 'name', value: (row: Item) => (row.count ? row.name : { text: row.name }) }
    ]
    t.equal(
      encode(items, { columns, encoder }),
      'id,Total,name\n1,10,Steel\n2,0,"{""text"":""Say \\""x\\""""}"\n'
    )
  })

  t.test(`it is asked once for a row, be it a plain one or not: ${encoder}`, async (t) => {
    let calls = 0
    const counting = { key: 'calls', value: () => ++calls }
    const rows = [{ a: 1 }, { a: 2 }, { a: { b: 1 } }, { a: 4 }]
    t.equal(encode(rows, { columns: ['a', counting], encoder }), 'a,calls\n1,1\n2,2\n"{""b"":1}",3\n4,4\n')
  })

  t.test(
    `a masked column has its header and nothing else, whatever a cast makes of nothing: ${encoder}`,
    async (t) => {
      const columns = ['id', { key: 'price', mask: () => true }, { ...total, mask: () => true }]
      t.equal(encode(items, { columns, encoder }), 'id,price,Total\n1,,\n2,,\n')
      const cast = { undefined: () => '-', null: () => '-', number: (value: number) => `#${value}` }
      t.equal(encode(items, { columns, cast, encoder }), 'id,price,Total\n#1,,\n#2,,\n')
      t.equal(encode([[1, 2, 3]], { columns, encoder }), 'id,price,Total\n1,,\n', 'of an array too')
    }
  )
}

t.test('of rows that are arrays, a function is given the array', async (t) => {
  const sum = { key: 'sum', value: ([a = 0, b = 0]: number[]) => a + b }
  t.equal(
    encode(
      [
        [1, 2],
        [3, 4]
      ],
      { columns: ['a', 'b', sum] }
    ),
    'a,b,sum\n1,2,3\n3,4,7\n'
  )
})

t.test(
  'what a function throws, or gives that cannot be written, is said with its row and its column',
  async (t) => {
    const failing = { key: 'owner', value: (row: any) => row.owner.name }
    t.throws(() => encode([{ owner: { name: 'A' } }, {}], { columns: [failing] }), {
      code: 'CSV_EXPORT_INVALID_ROW',
      message: /^row 2: column "owner": Cannot read properties of undefined/
    })
    t.throws(() => encode([{}], { columns: [{ key: 'later', value: async () => 1 }] }), {
      code: 'CSV_EXPORT_INVALID_ROW'
    })
  }
)

t.test('a mask has to say true or false, and is refused where nothing could be masked', async (t) => {
  const columns = (mask: unknown) => ['id', { key: 'price', mask }] as Column<Item>[]
  for (const mask of [async () => false, () => undefined, () => 1]) {
    t.throws(() => toCsv(items, { columns: columns(mask) }), {
      code: 'CSV_EXPORT_INVALID_OPTION',
      message: /mask of column "price"/
    })
  }
  t.throws(() => toCsv(items, { columns: columns(true) }), { code: 'CSV_EXPORT_INVALID_OPTION' })
  t.throws(
    () => toCsv(items, { columns: columns(({ sees }: any) => !sees) }),
    TypeError,
    'nobody is no viewer'
  )
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(csvExport, { columns: columns(() => false) as Column<any>[] })
  app.get('/', (_request, reply) => reply.csv(['id,price\n1,2\n'], { encoded: true }))
  const { statusCode, body } = await app.inject('/')
  t.equal(statusCode, 500)
  t.match(body, /CSV_EXPORT_INVALID_OPTION.*mask/)
})

t.test(
  'a reply and a script write the same for a viewer, and what is masked is not told as missing',
  async (t) => {
    const columns: Column<Item>[] = ['id', { key: 'price', mask: ({ role }) => role !== 'buyer' }, total]
    const receipts: Receipt[] = []
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(csvExport, {
      viewer: ({ headers }) => ({ role: headers['x-role'] }),
      onReceipt: (receipt) => void receipts.push(receipt)
    })
    app.get('/', (_request, reply) => reply.csv(items, { columns }))
    const masked = 'id,price,Total\n1,,10\n2,,0\n'
    const open = 'id,price,Total\n1,2.5,10\n2,3,0\n'
    for (const [role, expected] of [
      ['buyer', open],
      ['guest', masked]
    ] as const) {
      const { body } = await app.inject({ url: '/', headers: { 'x-role': role } })
      t.equal(body, expected)
      t.equal(await textOf(toCsv(items, { columns, viewer: { role } })), expected)
    }
    t.same(
      receipts.map(({ columnsWithoutValue }) => columnsWithoutValue),
      [null, null]
    )
  }
)

const value = fc.oneof(
  fc.string(),
  fc.double(),
  fc.integer(),
  fc.boolean(),
  fc.date(),
  fc.constant(null),
  fc.object()
)

t.test('both ways write the same of computed columns', async (t) => {
  const columns: Column<any>[] = [
    { key: 'first', value: (row) => row.a },
    'b',
    { key: 'c', mask: () => true },
    { key: 'last', value: (row) => [row.a, row.b] }
  ]
  const property = fc.property(
    fc.array(fc.record({ a: value, b: value, c: value }), { minLength: 1 }),
    (rows) => {
      const [auto, reference] = bothWays.map((encoder) => {
        try {
          return encode(rows, { columns, encoder })
        } catch (error) {
          return String(error)
        }
      })
      return auto === reference
    }
  )
  const { failed, counterexample } = fc.check(property, { numRuns: 1_000 })
  t.notOk(failed, JSON.stringify(counterexample))
})
