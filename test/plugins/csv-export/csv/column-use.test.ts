import t from 'tap'
import type { CsvOptions, Receipt } from '../../../../plugins/csv-export/index.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { bothWays, encoderOf } from './encoding.ts'

function use(rows: unknown[], settings: CsvOptions = {}) {
  const found = bothWays.map((encoder) => {
    const csv = encoderOf({ ...settings, encoder })
    for (const row of rows) csv.encode(row)
    csv.end()
    return { columns: csv.columnsWithoutValue, keys: csv.keysWithoutColumn }
  })
  const [one, other] = found
  t.same(one, other)
  return one as (typeof found)[0]
}
const list = (...names: string[]) => ({ count: names.length, names })

t.test('a column that no row had a value for is listed', async (t) => {
  const columns = ['name', 'nmae', 'address.cty', 'none']
  const rows = [
    { name: 'x', address: { city: 'y' } },
    { name: 'z', none: null }
  ]
  t.same(use(rows, { columns }), { columns: list('nmae', 'address.cty'), keys: null })
  t.same(use([...rows, ...rows, { nmae: 0 }], { columns }).columns, list('address.cty'))
  t.same(use([], { columns }).columns, null, 'without a row nobody can tell')
  t.same(use([[1], [2], [3, undefined]], { columns: ['a', 'b'] }).columns, list('b'))
  t.same(use([[1], [2], [3, null]], { columns: ['a', 'b'] }).columns, null)
  t.same(use([{ a: 1, b: undefined }, { a: 2 }]).columns, list('b'))
  const many = Array.from({ length: 30 }, (_, index) => `c${index}`)
  t.same(use([{}, {}], { columns: many }).columns, { count: 30, names: many.slice(0, 20) })
})

t.test('keys of later rows that the first did not have are listed', async (t) => {
  const rows = [
    { a: 1 },
    { a: 2, b: 3 },
    { b: 4, a: 5, c: undefined },
    Object.assign(Object.create(null), { d: 1 })
  ]
  t.same(use(rows).keys, list('b', 'd'))
  t.same(use(rows, { columns: ['a'] }).keys, null, 'given columns are meant so')
  t.same(use([{ a: 1, b: 2 }, { b: 2, a: 1 }, { b: 3 }]).keys, null)
  t.same(use([{ a: 1 }, Object.create({ inherited: 1 })]).keys, null)
  const nulls = [{ a: 1 }, { b: 2 }, { a: 1, c: 2 }].map((row) => Object.assign(Object.create(null), row))
  t.same(use(nulls).keys, list('b', 'c'))
  const many = Array.from({ length: 3000 }, (_, index) => ({ a: 1, [`k${index}`]: 1 }))
  t.match(use([{ a: 0 }, ...many]).keys, {
    count: 1000,
    names: many.slice(0, 20).map((_, index) => `k${index}`)
  })
})

t.test('the places of cells are no keys', async (t) => {
  const rows = Array.from({ length: 260 }, (_, index) => (index < 250 ? { a: 1, b: 2 } : [3, 4]))
  t.same(
    use(rows),
    { columns: null, keys: null },
    'arrays where a long file has a function made for its rows'
  )
})

t.test('a row of very many keys is written while somebody waits', async (t) => {
  const wide = (letter: string) =>
    Object.fromEntries(Array.from({ length: 60_000 }, (_, index) => [letter + index, index]))
  const [row, other] = [wide('a'), wide('b')]
  // Looked for one by one, they would take half a minute.
  t.same(use([row, row, other]), {
    columns: null,
    keys: { count: 1000, names: Object.keys(other).slice(0, 20) }
  })
  t.same(use([[], row], { columns: Object.keys(row) }), { columns: null, keys: null })
})

t.test('a key is listed once a row has a value for it', async (t) => {
  const rows = [{ a: 1 }, { a: 2, b: undefined }, { a: 3, b: undefined }, { a: 4, b: 5 }]
  t.same(use(rows).keys, list('b'))
  const columns = ['x', 'y', 'z', 'a']
  t.same(use([[1], [undefined, undefined, 1]], { columns }).columns, list('y', 'a'), 'in their order')
})

t.test('both are in the receipt and in the log of a complete export only', async (t) => {
  let ended = gate<Receipt>()
  const { url, log } = await serve(t, (app) => {
    const options = { onReceipt: (receipt: Receipt) => ended.open(receipt) }
    app.get('/columns', (_request, reply) =>
      reply.csv<any>([{ name: 1 }], { columns: ['name', 'nmae'], ...options })
    )
    app.get('/keys', (_request, reply) => reply.csv<any>([{ a: 1 }, { b: 1 }], options))
    app.get('/fine', (_request, reply) => reply.csv([{ a: 1 }], options))
    app.get('/broken', (_request, reply) =>
      reply.csv<any>(
        async function* () {
          yield { name: 1 }
          await new Promise(setImmediate)
          throw new Error('late')
        },
        { columns: ['name', 'nmae'], ...options }
      )
    )
    app.get('/text', (_request, reply) => reply.streamText(['x'], options))
  })
  const receipt = async (path: string) => {
    ended = gate<Receipt>()
    await curl(url + path)
    return ended.opened
  }
  const nothing = { columnsWithoutValue: null, keysWithoutColumn: null }
  t.match(await receipt('/columns'), { ...nothing, columnsWithoutValue: list('nmae') })
  t.match(await receipt('/keys'), { ...nothing, keysWithoutColumn: list('b') })
  for (const path of ['/fine', '/broken', '/text']) t.match(await receipt(path), nothing, path)
  const warnings = log.lines.filter(({ level, msg }) => level === 40 && /columns|keys/.test(msg))
  t.match(warnings, [
    {
      msg: 'an export has columns that no row had a value for',
      export: { columnsWithoutValue: list('nmae') }
    },
    {
      msg: 'an export has left out keys that its first row did not have',
      export: { keysWithoutColumn: list('b') }
    }
  ])
  t.equal(warnings.length, 2)
})
