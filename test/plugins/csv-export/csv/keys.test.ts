import { runInNewContext, runInThisContext } from 'node:vm'
import t, { type Test } from 'tap'
import type { CsvOptions } from '../../../../plugins/csv-export/options/options.ts'
import { bothWays, encode } from './encoding.ts'

/** The cells of a row by their columns, written after another row and before it, in both ways. */
function cells(t: Test, row: object, columns: string[], expected: string): void {
  for (const encoder of bothWays) {
    for (const rows of [[row], [{}, row], [row, row]]) {
      const lines = encode(rows, { columns, header: false, encoder, quotedEmpty: false }).split('\n')
      t.equal(lines[rows.length - 1], expected, `${columns.join(' ')} (${encoder})`)
    }
  }
}

t.test("a row's own property is a cell, whatever it is called", async (t) => {
  const columns = ['pos', 'driver.name', 'constructor.name']
  cells(t, { pos: 1, driver: { name: 'Leclerc' }, constructor: { name: 'Red' } }, columns, '1,Leclerc,Red')
  cells(t, { teams: [{ constructor: 'Red' }] }, ['teams[0].constructor'], 'Red')
  cells(t, { meta: { valueOf: 5, toString: 'x' } }, ['meta.valueOf', 'meta.toString'], '5,x')
  const hidden = JSON.parse('{"__proto__":{"a":1},"constructor.name":"b"}')
  cells(t, hidden, ['__proto__.a', 'constructor.name'], '1,b')
})

t.test('what its class gives a row is a cell', async (t) => {
  class Driver {
    get valueOf() {
      return 'from the class' as never
    }
    get name() {
      return 'Ada'
    }
  }
  cells(t, new Driver(), ['name', 'valueOf', 'constructor'], 'Ada,from the class,')
  const defaults = { constructor: { name: 'Red' }, hasOwnProperty: 'mine', city: 'Rome' }
  const columns = ['constructor.name', 'hasOwnProperty', 'city', 'toString']
  cells(t, Object.create(defaults), columns, 'Red,mine,Rome,')
  cells(
    t,
    { nested: Object.create(defaults) },
    columns.map((key) => `nested.${key}`),
    'Red,mine,Rome,'
  )
  const foreign = runInNewContext('Object.create({ constructor: { name: "Red" } })')
  cells(t, foreign, ['constructor.name', 'toString', 'valueOf'], 'Red,,')
})

t.test('a path steps into objects only', async (t) => {
  cells(t, { track: 'unknown' }, ['track.length', 'track[0]', 'track.constructor'], ',,')
  cells(
    t,
    { data: [] },
    ['data.values', 'data.length', 'data.at', 'data[0]', 'data.constructor.name'],
    ',,,,'
  )
  cells(t, { data: [[7], { id: 8 }] }, ['data[0][0]', 'data[1].id', 'data.1.id', 'data[01]'], '7,8,8,')
  cells(
    t,
    { n: 5, b: true, i: 5n, s: Symbol('x'), f: () => 1 },
    ['n.x', 'b.x', 'i.x', 's.description', 'f.name'],
    ',,,,'
  )
  cells(t, { boxed: Object('abc') }, ['boxed.length', 'boxed[0]'], ',')
  cells(t, { a: null, b: undefined }, ['a.x', 'b.x.y'], ',')
})

t.test('keys that look like paths mean what csv-stringify takes them for', async (t) => {
  const row = { '': 1, '.': 2, 'h.': 3, 'e[0]': 4, e: [5], a: { '': 6, 'b c': 7, 'd.e': 8 } }
  const columns = ['', '.', 'h.', 'e[0]', 'e.0', 'a["b c"]', "a['d.e']", 'a..x']
  cells(t, row, columns, '1,2,3,4,5,7,8,')
  const { '.': _dot, 'h.': _h, 'e[0]': _e, ...rest } = row
  cells(t, { ...rest, h: { '': 9 } }, ['h.', 'e[0]', '.'], '9,5,')
})

/** A value of every built-in class, of this realm and of another. */
const values = `({
  object: {}, array: [1], map: new Map([[1, 2]]), set: new Set([1]), weakMap: new WeakMap(), weakSet: new WeakSet(),
  date: new Date(5), regExp: /x/g, error: new Error('x'), typeError: new TypeError('x'), promise: Promise.resolve(),
  buffer: new ArrayBuffer(8), shared: new SharedArrayBuffer(8), bytes: new Uint8Array(3), floats: new Float64Array(3),
  view: new DataView(new ArrayBuffer(8)), weakRef: new WeakRef({}), number: Object(5), string: Object('x'),
  boolean: Object(true), symbol: Object(Symbol('x')), bigint: Object(5n), generator: (function* () {})(),
  asyncGenerator: (async function* () {})(), iterator: [][Symbol.iterator](), mapIterator: new Map().entries(),
  collator: new Intl.Collator(), locale: new Intl.Locale('pt'), aggregate: new AggregateError([1])
})`

t.test('what a built-in class gives its objects is no cell', async (t) => {
  for (const realm of [runInThisContext(values), runInNewContext(values)]) {
    for (const [name, value] of Object.entries<object>(realm)) {
      const members = new Set<string>()
      for (let at = Object.getPrototypeOf(value); at !== null; at = Object.getPrototypeOf(at)) {
        for (const member of Object.getOwnPropertyNames(at)) members.add(member)
      }
      // What is neither a method nor read by a getter is plain data: an error's class has its name.
      for (const data of ['name', 'message', 'BYTES_PER_ELEMENT']) members.delete(data)
      for (const member of Object.getOwnPropertyNames(value)) members.delete(member)
      if (Array.isArray(value)) members.add('length')
      const columns = [...members].map((member) => `value.${member}`)
      for (const encoder of bothWays) {
        const options: CsvOptions = { columns, header: false, encoder }
        t.equal(encode([{ value }], options), `${','.repeat(columns.length - 1)}\n`, `${name} ${encoder}`)
      }
    }
  }
})

t.test('columns named like members of every object are empty where no row has them', async (t) => {
  const columns = Object.getOwnPropertyNames(Object.prototype)
  for (const row of [{}, Object.create(null), new (class Row {})(), runInNewContext('({})')]) {
    cells(t, row, columns, ','.repeat(columns.length - 1))
  }
  const own = Object.fromEntries(columns.map((name, index) => [name, index]))
  Object.defineProperty(own, '__proto__', { value: 'p', enumerable: true })
  cells(t, own, columns, columns.map((name, index) => (name === '__proto__' ? 'p' : index)).join(','))
})

t.test('a cast sees the key as the column, and an index where rows are arrays', async (t) => {
  const columnsSeen = (row: unknown, columns: string[]) => {
    const seen: unknown[] = []
    const cast: CsvOptions['cast'] = {
      number: (value, { column }) => {
        seen.push(column)
        return String(value)
      }
    }
    encode([row, row], { columns, cast })
    return seen
  }
  const columns = ['a', 'b.c', 'd[0]']
  t.same(columnsSeen({ a: 1, b: { c: 2 }, d: [3] }, columns), [...columns, ...columns])
  t.same(columnsSeen([1, 2, 3], columns), [0, 1, 2, 0, 1, 2])
})

t.test('a key of separators alone leads nowhere', async (t) => {
  // csv-stringify finds no step at all in the last one.
  cells(t, { a: 1 }, ['.', 'a', '].]'], ',1,')
  cells(t, { '.': 2, '].]': 3 }, ['.', 'a', '].]'], '2,,3')
})
