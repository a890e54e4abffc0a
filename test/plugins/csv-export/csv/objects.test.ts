import { runInNewContext, runInThisContext } from 'node:vm'
import t from 'tap'
import { bothWays, encode } from './encoding.ts'

/** The text of a value in a cell, alone and beside others. */
function cell(value: unknown): string {
  const texts = bothWays.flatMap((encoder) => {
    const settings = { columns: ['a', 'b'], header: false, delimiter: '\t', quote: "'", encoder }
    return encode([{ a: 1 }, { a: value, b: 2 }, { a: value, b: 2 }], settings)
      .split('\n')
      .slice(1, 3)
  })
  const [text, ...others] = texts.map((line) => line.slice(0, -2))
  for (const other of others) if (other !== text) throw new Error(`${text} and ${other}`)
  return text as string
}

t.test('what JSON makes a string of is that string', async (t) => {
  const decimal = { toJSON: () => '19.90' }
  const values: [unknown, string][] = [
    [decimal, '19.90'],
    [new URL('https://example.com/?a=1'), 'https://example.com/?a=1'],
    [Object('x'), 'x'],
    [Object(5), '5'],
    [Object(false), 'false'],
    [runInNewContext('new Date(5)'), '1970-01-01T00:00:00.005Z'],
    [{ toJSON: () => 'say "hi"' }, 'say "hi"'],
    [{ toJSON: () => '' }, ''],
    [{ toJSON: () => null }, ''],
    [{ toJSON: () => undefined }, ''],
    [{ toJSON: () => 5 }, '5'],
    [[decimal], '["19.90"]'],
    [{ price: decimal }, '{"price":"19.90"}']
  ]
  for (const [value, expected] of values) t.equal(cell(value), expected)
  const { Temporal } = globalThis as any
  if (Temporal) t.equal(cell(Temporal.PlainDate.from('2026-01-31')), '2026-01-31')
})

class PostgresInterval {}
class Hidden {
  #value = 5
  get value() {
    return this.#value
  }
}

t.test('an object without properties is {}, at any depth', async (t) => {
  const empties = [{}, Object.create(null), new PostgresInterval(), new Hidden(), runInNewContext('({})')]
  for (const value of [...empties, new Intl.Collator(), new (class extends PostgresInterval {})()]) {
    t.equal(cell(value), '{}')
    t.equal(cell({ x: [value] }), '{"x":[{}]}')
  }
  t.equal(cell({ x: '{}' }), '{"x":"{}"}')
  t.equal(cell({ x: new Uint8Array() }), '{"x":{}}', 'there is nothing in it')
})

/** What JSON loses, of this realm and of another. */
const losing = `({
  map: new Map([[1, 2]]), set: new Set([1]), weakMap: new WeakMap(), weakSet: new WeakSet(), weakRef: new WeakRef({}),
  promise: Promise.resolve(1), error: new Error('x'), typeError: new TypeError('x'), regExp: /x/,
  arrayBuffer: new ArrayBuffer(8), shared: new SharedArrayBuffer(8), view: new DataView(new ArrayBuffer(8)),
  generator: (function* () {})(), asyncGenerator: (async function* () {})(), iterator: [1].values(),
  mapIterator: new Map().entries(), stringIterator: 'x'[Symbol.iterator](), matches: 'x'.matchAll(/x/g),
  symbol: Object(Symbol('x')), extended: new (class extends Map {})()
})`

t.test('what JSON would lose is an error, at any depth', async (t) => {
  const own = {
    headers: new Headers({ a: '1' }),
    parameters: new URLSearchParams('a=1'),
    form: new FormData(),
    blob: new Blob(['x']),
    exception: new DOMException('x'),
    iterable: Object.defineProperty({}, Symbol.iterator, { value: function* () {} }),
    thenable: Object.defineProperty({}, 'then', { value: () => {} })
  }
  for (const realm of [own, runInThisContext(losing), runInNewContext(losing)]) {
    for (const [name, value] of Object.entries(realm)) {
      for (const held of [value, [value, value], { x: { y: value } }, [[value]]]) {
        for (const encoder of bothWays) {
          t.throws(
            () => encode([{ a: 1 }, { a: held }], { encoder }),
            {
              code: 'CSV_EXPORT_INVALID_ROW',
              message: /^row 2: column "a": JSON can hold nothing of an? \w/
            },
            name
          )
        }
      }
    }
  }
})

t.test('an invalid Date of another realm is an error too', async (t) => {
  t.throws(() => cell(runInNewContext('new Date(NaN)')), { message: 'row 2: column "a": an invalid Date' })
  t.equal(cell([runInNewContext('new Date(NaN)')]), '[null]', 'in an object it is what JSON makes of it')
})

t.test('bytes of another realm are base64 too', async (t) => {
  t.equal(cell(runInNewContext('new Uint8Array([104, 105])')), 'aGk=')
})

t.test('the end mark is nobody’s cell', async (t) => {
  const cast = { string: () => 'N/A', number: () => 'N/A' }
  t.equal(encode([{ a: 'x', b: 'y' }], { header: false, endMark: '#END', cast }), 'N/A,N/A\n#END 1,\n')
})

t.test('a cast cannot give its cell separators of its own', async (t) => {
  const withOptions = (options: object, settings = {}) =>
    encode([{ a: 'x,y', b: 'z' }], {
      header: false,
      ...settings,
      cast: { string: (value) => ({ value, ...options }) }
    })
  for (const options of [
    { quote: false },
    { quote: "'" },
    { quote: '' },
    { escape: '\\' },
    { delimiter: ';' },
    { recordDelimiter: '\r\n' },
    { record_delimiter: 'windows' },
    { delimiter: Buffer.from(';') }
  ]) {
    const message = /^row 1: column "a": a cast returned its own "\w+": it has to be that of the whole file$/
    t.throws(() => withOptions(options), { code: 'CSV_EXPORT_INVALID_ROW', message })
  }
  for (const options of [
    { quote: true },
    { quote: '"', escape: '"' },
    { delimiter: ',' },
    { delimiter: undefined }
  ]) {
    t.equal(withOptions(options), '"x,y",z\n')
  }
  t.equal(withOptions({ delimiter: undefined }, { delimiter: ';' }), 'x,y;z\n')
  t.equal(withOptions({ quoted: true }), '"x,y","z"\n', 'its other options stay')
})

t.test('one frozen object may be what every cast returns', async (t) => {
  const result = Object.freeze({ value: 'same', quoted: true })
  t.equal(encode([{ a: 1 }, { a: 2 }], { cast: { number: () => result } }), 'a\n"same"\n"same"\n')
})

t.test('a cast that returns a Promise, or an object without a value, is an error', async (t) => {
  for (const result of [Promise.resolve('x'), {}, new Map()]) {
    t.throws(() => encode([{ a: 'x' }], { header: false, cast: { string: () => result as never } }), {
      code: 'CSV_EXPORT_INVALID_ROW',
      message: /^row 1: column "a": a cast returned a .* instead of a string/
    })
  }
})

t.test('what a cast gives is quoted where it has to be, with options of its own too', async (t) => {
  const cast = { string: (value: string) => ({ value, quotedEmpty: true }) }
  t.equal(encode([{ a: ' ', b: 'x' }], { header: false, cast }), '" ",x\n')
})
