import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'
import { numbersAfter } from '../../../../plugins/csv-export/csv/plain/values.ts'
import { RecordStringifier } from '../../../../plugins/csv-export/csv/record-stringifier.ts'
import { bothWays, encode, encoderOf } from './encoding.ts'
import { checkDates, checkPlainRows, checkRepeatedTexts } from './plain-files.ts'

// Many more are in test/long.

t.test('plain rows are written as csv-stringify writes them', async (t) => {
  checkPlainRows(t, 4_000)
})

t.test('texts that come again are written as those that do not', async () => {
  checkRepeatedTexts(40)
})

t.test('rows of many columns are written as csv-stringify writes them', async (t) => {
  for (const width of [1, 2, 19, 20, 21, 41, 300]) {
    const keys = Array.from({ length: width }, (_, index) => `column ${index}`)
    const values = ['', 'a,"b"', '\\.', 1.5, new Date(0), null, true, undefined, 7n]
    const cells = (row: number) => keys.map((_, index) => values[(row + index) % values.length])
    const objects = values.map((_, row) => Object.fromEntries(cells(row).map((cell, at) => [keys[at], cell])))
    const others = objects.map((row, at) => (at % 2 === 0 ? { ...row, other: 1 } : { other: at, ...row }))
    const bare = objects.map((row) => Object.assign(Object.create(null), row))
    const without = objects.map(({ [`column ${width - 1}`]: _, ...rest }) => ({ 'column 0': 1, ...rest }))
    const nested = objects.map((row, at) =>
      at % 2 === 0 ? row : { ...row, [`column ${width - 1}`]: { a: 1 } }
    )
    const arrays = values.map((_, row) => cells(row).slice(0, row === 3 ? width - 1 : width))
    for (const columns of [undefined, keys]) {
      for (const rows of [objects, [...objects, ...others], bare, [...objects, ...without], nested, arrays]) {
        const settings = { columns, header: rows !== arrays || columns !== undefined }
        const [first, known, expected] = (['auto', 'auto', 'csv-stringify'] as const).map((encoder) => {
          const csv = encoderOf({ ...settings, encoder })
          const text = rows.map((row) => csv.encode(row)).join('')
          return [text, csv.columnsWithoutValue, csv.keysWithoutColumn]
        })
        t.same(first, expected)
        t.same(known, expected)
      }
    }
  }
})

t.test('a layout that was forgotten for others is written as before', async (t) => {
  const file = (name: string) => encode([{ [name]: 1 }, { [name]: 'a,b' }])
  for (let number = 0; number < 2 * 120; number++) {
    const name = `key ${number % 120}`
    t.equal(file(name), `${name}\n1\n"a,b"\n`)
    t.equal(file(name), `${name}\n1\n"a,b"\n`)
  }
})

t.test('layouts that come once do not drive out those that come again', async (t) => {
  const stringified = t.capture(
    RecordStringifier.prototype,
    'stringify',
    RecordStringifier.prototype.stringify
  )
  const file = (name: string) => encode([1, 2, 3].map((value) => ({ [name]: value })))
  for (let count = 0; count < 2; count++) file('daily')
  for (let number = 0; number < 120; number++) file(`once ${number}`)
  stringified()
  t.equal(file('daily'), 'daily\n1\n2\n3\n')
  t.equal(stringified().length, 2, 'the header and the first row')
})

/** What a program prints that may call `toCsv()`, which is not loaded before `first` has been run. */
async function printedBy(first: string, program: string, ...flags: string[]): Promise<string> {
  const plugin = JSON.stringify(new URL('../../../../plugins/csv-export/index.ts', import.meta.url))
  const code = `${first}; const { toCsv } = await import(${plugin}); ${program}`
  const args = [...flags, '--input-type=module', '--eval', code]
  return (await promisify(execFile)(process.execPath, args)).stdout
}

t.test('names of columns do not fill the memory', async (t) => {
  const megabytes = await printedBy(
    '',
    `const heldBy = async (files) => {
       for (let file = 0; file < 2 * files; file++) {
         const row = { [String(file >> 1).padEnd(1e6, 'x')]: 1 }
         for await (const _ of toCsv([row, row, row]));
       }
       // What a turn of the event loop has made may be held until its end; before Node 26, by a collection too.
       for (let turn = 0; turn < 3; turn++) {
         await new Promise((resolve) => setTimeout(resolve, 10))
         gc()
       }
       return process.memoryUsage().heapUsed / 1e6
     }
     const before = await heldBy(3)
     console.log(await heldBy(30) - before)`,
    '--expose-gc'
  )
  t.ok(Number(megabytes) < 20, `${megabytes} MB`)
})

t.test('where no code can be made of text, csv-stringify writes each row', async (t) => {
  const stdout = await printedBy(
    '',
    `for (let file = 0; file < 2; file++)
       for await (const chunk of toCsv([{ a: 1 }, { a: 'b,c' }, { a: 'd' }])) process.stdout.write(chunk)`,
    '--disallow-code-generation-from-strings'
  )
  t.equal(stdout, 'a\n1\n"b,c"\nd\n'.repeat(2))
})

t.test('dates have the text of a toISOString that was replaced before', async (t) => {
  for (const first of [
    `Date.prototype.toISOString = () => 'today'`,
    `Date.prototype.getTime = () => 5; Date.prototype.toISOString = ((text) => function () { return text.call(this) && 'today' })(Date.prototype.toISOString)`
  ]) {
    const stdout = await printedBy(
      first,
      `const a = new Date(0)
       for (let file = 0; file < 2; file++)
         for await (const chunk of toCsv([{ a }, { a }])) process.stdout.write(chunk)`
    )
    t.equal(stdout, 'a\ntoday\ntoday\n'.repeat(2))
  }
})

t.test('an array is an array whatever its prototype is', async (t) => {
  const ordinary = [
    { a: 1, b: 2 },
    { a: 3, b: 4 }
  ]
  const bare = ordinary.map((row) => Object.assign(Object.create(null), row))
  for (const encoder of bothWays) {
    for (const [rows, prototype] of [
      [ordinary, Object.prototype],
      [bare, null]
    ] as const) {
      const array = Object.setPrototypeOf([5, 6], prototype)
      for (let file = 0; file < 2; file++)
        t.equal(encode([...rows, array], { encoder }), 'a,b\n1,2\n3,4\n5,6\n')
    }
  }
})

t.test('layouts stay apart where every object has a toJSON', async (t) => {
  for (const { prototype } of [Object, Array]) {
    t.teardown(() => Reflect.deleteProperty(prototype, 'toJSON'))
    Object.defineProperty(prototype, 'toJSON', { configurable: true, value: () => 'the same' })
    const rows = [1, 2, 3].map((a) => ({ a, b: 'x' }))
    for (const columns of [
      ['a', 'b'],
      ['b', 'a']
    ]) {
      const [first, known, expected] = (['auto', 'auto', 'csv-stringify'] as const).map((encoder) =>
        encode(rows, { columns, encoder })
      )
      t.equal(first, expected)
      t.equal(known, expected)
    }
    Reflect.deleteProperty(prototype, 'toJSON')
  }
})

t.test('nobody asks for a toJSON where columns are given', async (t) => {
  const row = (a: number) =>
    Object.defineProperty({ a }, 'toJSON', { get: () => t.fail('nobody has to ask') })
  for (const encoder of bothWays)
    t.equal(encode([row(1), row(2), row(3)], { encoder, columns: ['a'] }), 'a\n1\n2\n3\n')
})

t.test('each cell of plain rows is asked for once', async (t) => {
  for (const encoder of bothWays) {
    let count = 0
    const row = () => ({
      get id() {
        return ++count
      },
      name: 'x'
    })
    t.equal(encode([row(), row(), row()], { encoder, header: false }), '1,x\n2,x\n3,x\n')
  }
})

t.test(
  'a first cell that readers would take for something else is quoted in rows of all kinds',
  async (t) => {
    const bare = (name: string) => Object.assign(Object.create(null), { name, id: 1 })
    const rows = ['a', ' ', '\ufeffb', 'c'].map(bare)
    for (const encoder of bothWays)
      t.equal(encode(rows, { encoder, header: false }), 'a,1\n" ",1\n"\ufeffb",1\nc,1\n')
  }
)

const numberText = numbersAfter('')

t.test('a number has the text that JavaScript gives it', async (t) => {
  const edges = [
    ...[0, -0, 0.0005, 0.001, 1e3, 1e6, 999_999_999, 999_999_999.999, 1e9, 2 ** 31, 2 ** 53, 1e21, 1e-7],
    ...[Number.NaN, Number.POSITIVE_INFINITY, Number.MIN_VALUE, Number.MAX_VALUE]
  ]
  for (const value of edges) {
    t.equal(numberText(value), String(value))
    t.equal(numberText(-value), String(-value))
  }
  const differing = []
  for (let count = 0; count < 40_000; count++) {
    for (const value of [
      count,
      count / 10,
      count / 100,
      count / 1000,
      count / 10_000,
      count * 1.01,
      count * 4999
    ]) {
      if (numberText(value) !== String(value)) differing.push(value)
    }
  }
  t.same(differing, [])
})

t.test('a number has the same text after any delimiter', async (t) => {
  const delimiters = Array.from({ length: 50 }, (_, index) => String.fromCharCode(0x21 + index))
  for (const delimiter of [...delimiters, ...delimiters]) {
    for (const value of [0, -1, 12_345.678, 1e21]) t.equal(numbersAfter(delimiter)(value), delimiter + value)
  }
})

t.test('a date has the text that toISOString gives it', async (t) => {
  checkDates(t, 11)
})
