import t from 'tap'
import type { CsvOptions, Receipt } from '../../../../plugins/csv-export/index.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { encode, encoderOf } from './encoding.ts'

/** Casts that give another text each time they are asked. */
const changing: Record<string, () => NonNullable<CsvOptions['cast']>> = {
  'makes equal headers differ': () => {
    const seen = new Map<string, number>()
    return {
      string: (value, { header }) => {
        if (!header) return value
        const count = (seen.get(value) ?? 0) + 1
        seen.set(value, count)
        return count === 1 ? value : `${value} ${count}`
      }
    }
  },
  'adds a unit once': () => {
    let added = false
    return {
      string: (value, { header }) => {
        if (!header || added) return value
        added = true
        return `${value} in the whole of kilograms`
      }
    }
  },
  counts: () => {
    let count = 0
    return { string: (value, { header }) => (header ? `${value}${'x'.repeat(count++)}` : value) }
  }
}

const shapes: CsvOptions[] = [
  {},
  { bom: true },
  { eof: false },
  { headerAsComment: true },
  { bom: true, eof: false, headerAsComment: '//' },
  { endMark: '#END' },
  { formulas: 'escape' }
]

t.test('a header made ahead of its first row is that of a fast first row', async (t) => {
  const columns = [{ key: 'a', header: 'Name' }, { key: 'b', header: '=Name' }, 'c']
  const rows = [
    { a: 'x', b: 1, c: 'y' },
    { a: 'z', b: 2, c: '' }
  ]
  for (const [name, cast] of Object.entries(changing)) {
    for (const shape of shapes) {
      for (const some of [rows, []]) {
        const fast = encode(some, { columns, ...shape, cast: cast() })
        const encoder = encoderOf({ columns, ...shape, cast: cast() })
        let slow = encoder.begin()
        t.equal(encoder.begin(), '', 'it is there once')
        for (const row of some) slow += encoder.encode(row)
        t.equal(slow + encoder.end(), fast, `${name} ${JSON.stringify(shape)}`)
        t.equal(encoder.escapedCells, shape.formulas === undefined ? 0 : 1)
      }
    }
  }
})

t.test('a cast is asked for each header once, and sees that it is one', async (t) => {
  for (const rows of [[{ a: 'x' }, { a: 'y' }], []]) {
    const seen: unknown[] = []
    const cast: CsvOptions['cast'] = {
      string: (value, context) => {
        seen.push([value, context.header, context.records])
        return value
      }
    }
    const encoder = encoderOf({ columns: ['a', 'b'], cast, endMark: '#END' })
    encoder.begin()
    for (const row of rows) encoder.encode(row)
    encoder.end()
    const ofRows = rows.map(({ a }, index) => [a, false, index])
    t.same(seen, [['a', true, 0], ['b', true, 0], ...ofRows], 'the end mark is nobody’s cell')
  }
})

t.test('a download whose first row is late loses nothing', async (t) => {
  const first = gate()
  const ended = gate<Receipt>()
  const { url } = await serve(t, (app) => {
    app.get<{ Params: { name: string } }>('/:name', (request, reply) =>
      reply.csv(
        async function* () {
          await first.opened
          yield { a: 1, b: 2 }
          yield { a: 3, b: 4 }
        },
        {
          columns: [
            { key: 'a', header: 'Name' },
            { key: 'b', header: 'Name' }
          ],
          cast: changing[request.params.name]?.(),
          commitAfter: 1,
          digest: true,
          onReceipt: ended.open
        }
      )
    )
  })
  const response = await fetch(`${url}/${encodeURIComponent('makes equal headers differ')}`)
  first.open()
  t.equal(await response.text(), 'Name,Name 2\n1,2\n3,4\n')
  t.match(await ended.opened, { status: 'complete', rows: 2, bytes: 20 })
})

t.test('a file without rows has its header once before its end mark', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv([], { columns: ['a', 'a'], cast: changing.counts?.(), endMark: '#END' })
    )
  })
  t.equal((await curl(url)).body, 'a,ax\n#END 0,\n')
})

/** Every way in which a header cannot be written. */
export const unwritable: Record<string, CsvOptions> = {
  'a formula': { columns: [{ key: 'a', header: '=How much' }], formulas: 'reject' },
  'a separator without a quote': { columns: [{ key: 'a', header: 'Amount, EUR' }], quote: false },
  'a cast that throws': {
    columns: ['a'],
    cast: {
      string: () => {
        throw new Error('no such language')
      }
    }
  },
  'a cast that returns no string': { columns: ['a'], cast: { string: () => 5 as never } },
  'a cast with separators of its own': {
    columns: ['a'],
    cast: { string: (value) => ({ value, delimiter: ';' }) }
  },
  'a blank header without a quote': { columns: [' '], quote: false }
}

t.test('a header that cannot be written says so, early and late', async (t) => {
  for (const [name, settings] of Object.entries(unwritable)) {
    for (const part of ['begin', 'encode', 'end'] as const) {
      const encoder = encoderOf(settings)
      t.throws(() => encoder[part]({ a: 1 }), { message: /^header: column / }, `${name}: ${part}`)
    }
  }
})
