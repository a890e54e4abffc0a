import t from 'tap'
import type { CsvOptions } from '../../../../plugins/csv-export/options/options.ts'
import { encoderOf } from './encoding.ts'

function encode(rows: readonly object[], settings: CsvOptions = {}): string {
  const encoder = encoderOf(settings)
  return rows.map((row) => encoder.encode(row)).join('') + encoder.end()
}

t.test('a column reads the property of the row, never that of every object', async (t) => {
  const own = JSON.parse('{"__proto__":"a","constructor":"b","toString":"c","constructor.name":"d","x":"e"}')
  const columns = ['__proto__', 'constructor', 'toString', 'constructor.name', 'x.constructor', 'x']
  const expected = 'a,b,c,d,,e\n,,,,,\n,,,,,1\n'
  for (const rows of [
    [own, {}, { x: 1 }],
    [own, Object.create(null), Object.freeze({ x: 1 })],
    [own, new (class Row {})(), Object.freeze({ x: 1 })]
  ]) {
    t.equal(encode(rows, { columns, header: false }), expected)
    t.equal(encode(rows, { columns, header: false, quotedEmpty: false }), expected, "csv-stringify's way")
  }
  t.equal(
    encode([own, {}]),
    '__proto__,constructor,toString,constructor.name,x\na,b,c,d,e\n,,,,\n',
    'the first row has them'
  )
})

t.test('a getter of a class is a property of its rows', async (t) => {
  class User {
    #name = 'Ada'
    get name() {
      return this.#name
    }
  }
  t.equal(encode([new User(), new User()], { columns: ['name'] }), 'name\nAda\nAda\n')
  t.equal(encode([new User()], { columns: ['name', 'constructor'] }), 'name,constructor\nAda,\n')
})

t.test('a short array leaves fields empty', async (t) => {
  const rows = [['x'], ['1'], [], ['1', '2'], [undefined, '2']]
  const expected = 'a,b\nx,\n1,\n,\n1,2\n,2\n'
  t.equal(encode(rows, { columns: ['a', 'b'] }), expected)
  t.equal(encode(rows, { columns: ['a', 'b'], quotedEmpty: false }), expected, "csv-stringify's way")
})

t.test('a record of one field is no blank line and no end of data', async (t) => {
  const rows = [{ a: '' }, { a: null }, { a: '\\.' }, {}, { a: 'x' }]
  t.equal(encode(rows), 'a\n""\n""\n"\\."\n""\nx\n')
  t.equal(encode(rows, { quotedMatch: 'x' }), 'a\n""\n""\n"\\."\n""\n"x"\n', "csv-stringify's way")
  t.equal(encode(rows, { eof: false }), 'a\n""\n""\n"\\."\n""\nx')
  t.equal(encode([{ '': '' }, { '': '' }]), '""\n""\n""\n')
  t.equal(encode([], { columns: [''], eof: false }), '""')
  t.equal(encode([[''], ['', ''], ['']], { header: false }), '""\n,\n""\n')
  t.equal(encode(rows, { quotedEmpty: false }), 'a\n\n\n"\\."\n\nx\n', 'unless wanted')
  t.equal(encode(rows, { quotedString: true }), '"a"\n""\n""\n"\\."\n""\n"x"\n')
  t.equal(encode([{ a: '' }, { a: '' }], { quote: false }), 'a\n\n\n')
})

t.test('what cannot be written says row and column', async (t) => {
  const circular: { self?: object } = {}
  circular.self = circular
  const fails = (rows: readonly object[], message: RegExp, settings: CsvOptions = {}, cause = /./) => {
    for (const encoderName of ['auto', 'csv-stringify'] as const) {
      const encoder = encoderOf({ ...settings, encoder: encoderName })
      const error = t.throws(() => {
        for (const row of rows) encoder.encode(row)
        encoder.end()
      }) as Error & { code: string }
      t.equal(error.code, 'CSV_EXPORT_INVALID_ROW')
      t.match(error.message, message)
      t.match(String(error.cause), cause)
    }
  }
  const good = { a: 1, b: 2 }
  const cells: Record<string, unknown> = {
    circular,
    'a bigint in JSON': { x: 1n },
    'an invalid Date': new Date(Number.NaN),
    'a Map': new Map([[1, 2]]),
    'a Promise': Promise.resolve(1),
    'a symbol': Symbol('x'),
    'a function': () => 1,
    'what throws': { toJSON: () => (undefined as any).property }
  }
  for (const cell of Object.values(cells)) {
    fails([good, good, { a: 1, b: cell }], /^row 3: column "b": ./)
    fails([{ a: 1, b: cell }], /^row 1: column "b": ./)
    fails([good, { a: 1, b: { c: cell } }], /^row 2: column "b\.c": ./, { columns: ['a', 'b.c'] })
    fails(
      [
        [1, 2],
        [1, cell]
      ],
      /^row 2: column 2: ./,
      { header: false }
    )
    fails(
      [
        [1, 2],
        [1, cell]
      ],
      /^row 2: column "b": ./,
      { columns: ['a', 'b'] }
    )
  }
  const broken = {
    a: 1,
    get b() {
      throw new Error('no database')
    }
  }
  fails([good, broken], /^row 2: column "b": no database$/)

  const casts = (result: () => any): CsvOptions => ({ cast: { number: result } })
  const thrown = () => {
    throw new Error('no such currency')
  }
  fails([good], /^row 1: column "a": no such currency$/, casts(thrown), /^Error: no such currency$/)
  for (const result of [0, false, ['x'], { value: 0 }, { value: 5n }, Symbol('x')]) {
    fails(
      [good],
      /^row 1: column "a": a cast returned .* instead of a string/,
      casts(() => result)
    )
  }
  fails([], /^header: column "a": no such currency$/, { columns: ['a'], cast: { string: thrown } })
  fails([good], /^header: column "a": no such currency$/, { columns: ['a'], cast: { string: thrown } })
})

t.test('an empty object is {}', async (t) => {
  const nothing = new (class {
    toJSON() {
      return {}
    }
  })()
  t.equal(encode([{ a: {}, b: Object.create(null), c: nothing }], { header: false }), '{},{},{}\n')
})

t.test('without a quote, what only a quote could hold is an error', async (t) => {
  const fails = (cell: unknown, message: RegExp, settings: CsvOptions = {}) =>
    t.throws(() => encode([{ a: cell, b: 1 }], { quote: false, ...settings }), {
      code: 'CSV_EXPORT_INVALID_ROW',
      message
    })
  fails('x,y', /^row 1: column "a": a field contains ",", and there is no quote/)
  fails('x\ry', /contains "\\r"/)
  fails(['x', 'y'], /contains ","/)
  fails(1.5, /contains "\."/, { delimiter: '.' })
  fails('x:', /contains "::"/, { delimiter: '::' })
  fails('=1', /contains "'"/, { delimiter: "'", formulas: 'escape' })
  fails('x\u001ey', /contains "\\u001e"/, { recordDelimiter: 'ascii' })
  t.throws(() => encode([], { columns: ['x,y'], quote: false }), { message: /^header: column "x,y": / })
  t.equal(
    encode([{ a: 'x"y\n', b: 1 }], { quote: false, quoteRecordDelimiter: false, recordDelimiter: '|' }),
    'a,b|x"y\n,1|'
  )
})
