import { runInNewContext } from 'node:vm'
import t, { type Test } from 'tap'
import type { CsvOptions } from '../../../../plugins/csv-export/options/options.ts'
import { bothWays, encode } from './encoding.ts'

const good = { a: 1, b: 2 }

function fails(t: Test, rows: unknown[], message: RegExp, settings: CsvOptions = {}): void {
  for (const encoder of bothWays) {
    t.throws(
      () => encode(rows, { ...settings, encoder }),
      { code: 'CSV_EXPORT_INVALID_ROW', message },
      encoder
    )
  }
}

t.test('an array longer than the columns says so, wherever it stands', async (t) => {
  const columns = ['a', 'b']
  fails(t, [[1, 2, 3]], /^row 1: an array of 3 cells for 2 columns$/, { columns })
  fails(t, [[1, 2], [1], [1, 2, undefined]], /^row 3: an array of 3 cells for 2 columns$/, { columns })
  fails(t, [good, [1, 2, 3]], /^row 2: an array of 3 cells for 2 columns$/)
})

t.test('an object after rows that are arrays says so', async (t) => {
  fails(t, [[1, 2], good], /^row 2: an object after rows that are arrays: give "columns"$/, { header: false })
  t.equal(encode([[1, 2], good], { columns: ['a', 'b'] }), 'a,b\n1,2\n1,2\n', 'columns make them one')
})

class Account {
  id: number
  password = 'secret'
  $__ = { state: 'internal' }
  constructor(id: number) {
    this.id = id
  }
  toJSON() {
    return { id: this.id, link: 'x,y' }
  }
}

t.test('without columns a row is what its toJSON gives, with columns it is read itself', async (t) => {
  for (const encoder of bothWays) {
    const rows = [new Account(1), new Account(2), Object.assign({ id: 3 }, { toJSON: () => ({ id: 3 }) })]
    t.equal(encode(rows, { encoder }), 'id,link\n1,"x,y"\n2,"x,y"\n3,\n')
    t.equal(encode([{ toJSON: () => [1, 2] }], { encoder, header: false }), '1,2\n')
    t.equal(
      encode(rows.slice(0, 2), { encoder, columns: ['password', 'id'] }),
      'password,id\nsecret,1\nsecret,2\n'
    )
    const asked = { id: 1, toJSON: () => t.fail('nobody has to ask') }
    t.equal(encode([asked, asked], { encoder, columns: ['id'] }), 'id\n1\n1\n')
  }
  for (const [given, named] of [
    ['text', '"text"'],
    [5, '5'],
    [null, 'null'],
    [undefined, 'undefined'],
    [new Map(), 'a Map']
  ] as const) {
    fails(t, [good, { toJSON: () => given }], new RegExp(`^row 2: yield an object or an array, got ${named}`))
  }
  const throwing = {
    toJSON: () => {
      throw new Error('not loaded')
    }
  }
  fails(t, [throwing], /^row 1: not loaded$/)
})

/** Not awaited, as happens. */
class QueryBuilder {
  table = 'a'
  // biome-ignore lint/suspicious/noThenProperty: that is what it has
  then() {}
}

/** No rows, with or without columns, of this realm and of another. */
const noRows = `({
  Map: new Map([['a', 1]]), Set: new Set([1]), WeakMap: new WeakMap(), WeakSet: new WeakSet(), WeakRef: new WeakRef({}),
  Promise: Promise.resolve({ a: 1 }), RegExp: /x/, ArrayBuffer: new ArrayBuffer(8), DataView: new DataView(new ArrayBuffer(8)),
  'view of bytes': new Uint8Array(3), generator: (function* () { yield { a: 1 } })(),
  'yield\\\\*': (async function* () { yield { a: 1 } })(), iterator: [{ a: 1 }].values(), primitive: Object('x')
})`

t.test('what would be a blank record is an error that names the row', async (t) => {
  const own: Record<string, object> = {
    Buffer: Buffer.from('x'),
    Promise: new QueryBuilder(),
    // biome-ignore lint/suspicious/noThenProperty: some promises are objects of no class
    'Promise \\(await': { then() {} },
    Headers: new Headers({ a: '1' }),
    URLSearchParams: new URLSearchParams('a=1'),
    FormData: new FormData(),
    Blob: new Blob(['x'])
  }
  for (const realm of [own, runInNewContext(noRows)]) {
    for (const [name, value] of Object.entries(realm)) {
      const message = new RegExp(`^row (1|2): yield an object or an array, got an? .*${name}`)
      for (const settings of [{}, { columns: ['a'] }]) {
        fails(t, [value], message, settings)
        fails(t, [good, value], message, settings)
      }
    }
  }
  for (const [name, value] of Object.entries({ Date: new Date(5), Error: new Error('x') })) {
    fails(t, [good, value], new RegExp(`^row 2: yield an object or an array, got an? ${name}$`))
  }
  class Bag {
    *[Symbol.iterator]() {
      yield 1
    }
  }
  fails(t, [new Bag()], /^row 1: .* an iterable without properties$/)
  t.equal(encode([Object.assign(new Bag(), { a: 1 })]), 'a\n1\n')
})

t.test('what is no row is none with the properties of one either', async (t) => {
  for (const [name, value] of Object.entries<object>({
    ...runInNewContext('({ Map: new Map(), Promise: Promise.resolve(), generator: (function* () {})() })'),
    ...{ Set: new Set(), primitive: new String('') }
  })) {
    const row = Object.assign(value, good)
    for (const settings of [{}, { columns: ['a', 'b'] }]) {
      fails(t, [good, row], new RegExp(`^row 2: yield an object or an array, got an? .*${name}`), settings)
    }
  }
  fails(t, [good, Object.assign(new Error('x'), good)], /^row 2: .* got an Error$/)
  fails(t, [{ 0: 'x', 1: 'y' }, new String('ab')], /^row 2: .* got an object around a primitive$/)
})

t.test('an array without cells is a record of one empty field', async (t) => {
  for (const encoder of bothWays) {
    const settings = { header: false, encoder }
    t.equal(encode([[], [1], []], { ...settings, endMark: '#END' }), '""\n1\n""\n#END 3\n')
    t.equal(encode([[], []], { ...settings, columns: ['a', 'b'] }), ',\n,\n')
  }
})

t.test('with columns, an error or a date is read as any object', async (t) => {
  const rows = [new Error('first'), Object.assign(new TypeError('second'), { code: 'E' })]
  for (const encoder of bothWays) {
    t.equal(
      encode([...rows, ...rows], { columns: ['message'], encoder }),
      'message\nfirst\nsecond\nfirst\nsecond\n'
    )
    t.equal(encode(rows, { columns: ['name', 'code'], encoder }), 'name,code\nError,\nTypeError,E\n')
    t.equal(encode([Object.assign(new Date(5), { id: 1 })], { columns: ['id'], encoder }), 'id\n1\n')
  }
})

t.test('a first row without properties asks for columns', async (t) => {
  for (const first of [{}, Object.create(null), { toJSON: () => ({}) }, Object.create({ a: 1 })]) {
    fails(t, [first, good], /^row 1: an object without properties has no columns: give "columns"$/)
  }
  t.equal(encode([{}, good], { columns: ['a'] }), 'a\n""\n1\n')
})
