import assert from 'node:assert/strict'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import type { Test } from 'tap'
import { dateText } from '../../../../plugins/csv-export/csv/plain/values.ts'
import { RecordStringifier } from '../../../../plugins/csv-export/csv/record-stringifier.ts'
import type { CsvOptions } from '../../../../plugins/csv-export/options/options.ts'
import { checkSeparators } from '../../../../plugins/csv-export/options/separators.ts'
import { encoderOf, withDefaults } from './encoding.ts'

class German extends Date {
  override toISOString(): string {
    return this.toLocaleDateString('de')
  }
}
class Plain extends Date {}
const replaced = Object.assign(new Date(0), { toISOString: () => 'then, "once"' })
const shifted = Object.assign(new Date(0), { getTime: () => 86_400_000 })
const foreign = runInNewContext('new Date(5)')

const separators = '#/",;\t\r\n\'| a=-5\\.$^]\u2028\ud800\udc00é東'
const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom(...separators.split('')) })
)
const decimal = fc
  .tuple(fc.maxSafeInteger(), fc.integer({ min: 0, max: 8 }))
  .map(([digits, places]) => digits / 10 ** places)
const shortDecimal = fc
  .integer({ min: -2e6, max: 2e6 })
  .chain((digits) => fc.constantFrom(digits, digits / 100, digits * 1.01, digits / 1000))
const number = fc.oneof(
  fc.double(),
  fc.integer(),
  decimal,
  shortDecimal,
  fc.constantFrom(-0, 1e21, 1e-7, 5e-324, 0.0005, 1e9, 999_999_999.999, Number.NaN, Number.POSITIVE_INFINITY)
)
const date = fc.oneof(
  fc.date(),
  fc.date({ min: new Date('1999-12-30'), max: new Date('2000-03-02'), noInvalidDate: true }),
  fc
    .constantFrom(-62_167_219_200_000, -62_167_219_200_001, 253_402_300_799_999, 253_402_300_800_000)
    .map((time) => new Date(time)),
  fc.constantFrom<Date>(
    new Plain(7),
    new German(7),
    replaced,
    shifted,
    foreign,
    Object.create(Date.prototype)
  )
)
const odd = fc.oneof(
  fc.constantFrom(undefined, Buffer.from('x'), new Map(), Symbol('x'), Object(5), new String('"'), () => 1),
  fc.record({ nested: text })
)
const value = fc.oneof(
  { weight: 6, arbitrary: text },
  { weight: 4, arbitrary: number },
  { weight: 2, arbitrary: date },
  fc.bigInt(),
  fc.boolean(),
  fc.constant(null)
)
const cell = fc.oneof({ weight: 60, arbitrary: value }, odd)

const plainKey = fc.constantFrom('id', 'name', 'a b', 'größe', '', '5', '"', '-')
const key = fc.oneof(
  { weight: 12, arbitrary: plainKey },
  fc.constantFrom('a.b', 'a[0]', '__proto__', 'constructor')
)

class Named {
  get name(): string {
    return 'of the class'
  }
}
const inheritingToJSON = {
  toJSON(this: object): object {
    return { ...this, id: 'in JSON', added: 1 }
  }
}

/** A bound function is as native as those of the language are. */
const withNativeGetter = Object.defineProperty({}, 'name', {
  enumerable: true,
  get: (() => 'native').bind(null)
})

/** As they are: `Object.assign()` takes a field `__proto__` for the prototype, which may make others read-only. */
const withFields = (owner: object, fields: object): object =>
  Object.defineProperties(owner, Object.getOwnPropertyDescriptors(fields))

/** Ways for an object to have the same fields. */
const wrappings: ((fields: object) => object)[] = [
  (fields) => withFields(Object.create(null), fields),
  (fields) => Object.create(fields),
  (fields) => withFields(Object.create({ id: 'inherited', extra: 1 }), fields),
  (fields) => new Proxy(fields, {}),
  (fields) =>
    new Proxy(fields, { ownKeys: () => assert.fail('nobody has to ask'), get: (_, name) => String(name) }),
  (fields) => Object.freeze({ ...fields }),
  (fields) => withFields({ toJSON: () => Object.values(fields) }, fields),
  (fields) => Object.defineProperty({ ...fields }, 'toJSON', { value: () => ({ name: 'x', ...fields }) }),
  ...[
    () => new Named(),
    () => Object.create(inheritingToJSON),
    () => new Map(),
    () => new Error('x'),
    () => new Date(5),
    () => new String('x'),
    () => Promise.resolve(),
    () => Object.create(withNativeGetter),
    () => new URL('http://x')
  ].map((make) => (fields: object) => withFields(make(), fields)),
  (fields) => Object.defineProperty({ ...fields }, 'id', { enumerable: true, get: () => 'got' }),
  (fields) =>
    Object.defineProperty({ ...fields }, 'name', { enumerable: true, get: () => assert.fail('a getter') })
]
const object = fc.dictionary(key, cell)
const array = fc.array(cell, { maxLength: 5 })
const row = fc.oneof(
  { weight: 8, arbitrary: object },
  { weight: 4, arbitrary: array },
  fc.tuple(object, fc.constantFrom(...wrappings)).map(([fields, wrap]) => wrap(fields)),
  fc.sparseArray(value, { maxLength: 5 }),
  fc.record({ id: cell, name: cell, a: fc.record({ b: cell }) })
)
/** Most files have rows of one kind, as reports do. */
const rows = fc.oneof(
  fc.array(row, { maxLength: 6 }),
  fc.array(fc.record({ id: cell, name: cell, größe: cell }), { maxLength: 6 }),
  fc.array(fc.array(cell, { minLength: 3, maxLength: 3 }), { maxLength: 6 })
)

/** Mostly the default, so that most files have plain options. */
const mostly = <T>(usual: T, ...others: T[]) =>
  fc.oneof({ weight: 15, arbitrary: fc.constant(usual) }, fc.constantFrom(...others))
const options: fc.Arbitrary<CsvOptions> = fc.record(
  {
    columns: fc.array(fc.oneof(key, fc.record({ key: plainKey, header: text })), {
      minLength: 1,
      maxLength: 6
    }),
    header: fc.boolean(),
    headerAsComment: fc.constantFrom<boolean | string>(true, false, '//', 'a', '$', '.'),
    bom: fc.boolean(),
    eof: mostly(true, false),
    delimiter: fc.constantFrom(',', ';', '\t', '|', '$', '::', '-', ']', '\\', '^', 'é'),
    recordDelimiter: fc.constantFrom('\n', 'windows', 'mac', 'unix', 'unicode', '--'),
    quote: mostly<string | boolean>('"', "'", ']', '\\', '$', ' ', false),
    escape: mostly('"', "'", '\\', '$'),
    quoted: mostly(false, true),
    quotedEmpty: mostly<boolean | undefined>(undefined, true, false),
    quotedString: mostly(false, true),
    formulas: fc.constantFrom('keep' as const, 'escape' as const, 'reject' as const),
    excel: fc.boolean(),
    quoteRecordDelimiter: mostly(true, false),
    quotedMatch: mostly<false | RegExp>(false, /a/g),
    endMark: fc.constantFrom('end', '"')
  },
  { requiredKeys: [] }
)
/** Characters of the texts of numbers, booleans and dates, which would need quotes then. */
const inTexts = fc.constantFrom(...'1.-:eT')
const rarely = (rare: fc.Arbitrary<string>, ...usual: string[]) =>
  fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...usual) }, rare)
/** The same character twice, as a quote other than `"` is only plain then. */
const plainOptions: fc.Arbitrary<CsvOptions> = fc
  .record({
    columns: fc.option(fc.array(plainKey, { minLength: 1, maxLength: 5 }), { nil: undefined }),
    header: fc.boolean(),
    delimiter: rarely(inTexts, ',', ';', '\t', '|', '$', ']', '^', 'é'),
    recordDelimiter: fc.constantFrom('\n', 'windows', 'mac'),
    quote: rarely(inTexts, '"', '"', "'", '$', '\\', ' '),
    headerAsComment: fc.constantFrom<boolean | string>(false, false, '#', ']=', '-'),
    formulas: fc.constantFrom('keep' as const, 'escape' as const),
    excel: fc.boolean()
  })
  .map((options) => ({ ...options, escape: options.quote }))
/** What no reader could tell apart is refused before there is an encoder. */
const settings = fc.oneof(options, plainOptions).filter((options) => {
  try {
    checkSeparators(withDefaults(options))
    return true
  } catch {
    return false
  }
})

/** The text up to the first error, the error's message and the number of escaped cells. */
function encode(rows: readonly unknown[], settings: CsvOptions): unknown[] {
  let text = ''
  try {
    const encoder = encoderOf(settings)
    for (const item of rows) text += encoder.encode(item)
    const { escapedCells, columnsWithoutValue, keysWithoutColumn } = encoder
    return [text + encoder.end(), '', escapedCells, columnsWithoutValue, keysWithoutColumn]
  } catch (error) {
    return [text, (error as Error).message]
  }
}

/** Compares files of random rows and options with what csv-stringify makes of them, byte for byte. */
export function checkPlainRows(t: Test, numRuns: number): void {
  let stringified = 0
  const { stringify: original } = RecordStringifier.prototype
  RecordStringifier.prototype.stringify = function (cells, isHeader) {
    if (!isHeader) stringified++
    return original.call(this, cells, isHeader)
  }
  t.teardown(() => {
    RecordStringifier.prototype.stringify = original
  })
  let [plain, both] = [0, 0]
  fc.assert(
    fc.property(rows, settings, (rows, settings) => {
      // A layout that is new is csv-stringify's in a short file.
      const first = encode(rows, settings)
      stringified = settings.endMark === undefined ? 0 : -1
      const found = encode(rows, settings)
      const ended = found[1] === ''
      if (ended && stringified < rows.length) plain++
      if (ended && stringified < rows.length && stringified > 1) both++
      assert.deepEqual(found, encode(rows, { ...settings, encoder: 'csv-stringify' }))
      assert.deepEqual(first, found)
    }),
    { numRuns }
  )
  t.comment(`${plain} files with plain rows, ${both} of them with others after the first`)
  t.ok(plain > 0.15 * numRuns && both > 0.04 * numRuns, 'neither way is rare')
}

/** Of one column: how many texts there are, and for how many rows each stays. */
const habit = fc.record({
  texts: fc.array(fc.oneof(text, fc.constantFrom('=1', '-', 'a'.repeat(65), 'a,"b')), {
    minLength: 1,
    maxLength: 5
  }),
  every: fc.constantFrom(1, 2, 3, 50),
  areNew: fc.boolean(),
  from: fc.nat(300)
})

/** Compares long files, whose columns have the same texts again and again, or new ones, with csv-stringify's. */
export function checkRepeatedTexts(numRuns: number): void {
  const plain = fc.record({
    formulas: fc.constantFrom('keep' as const, 'escape' as const),
    columns: fc.constantFrom(undefined, ['c0', 'c1', 'none'])
  })
  fc.assert(
    fc.property(
      fc.array(habit, { minLength: 1, maxLength: 4 }),
      fc.boolean(),
      plain,
      (habits, isArray, plain) => {
        const rows = Array.from({ length: 600 }, (_, row) => {
          const cells = habits.map(({ texts, every, areNew, from }) => {
            const text = texts[Math.floor(row / every) % texts.length] as string
            return areNew && row >= from ? `${text}${row}` : text
          })
          return isArray ? cells : Object.fromEntries(cells.map((cell, index) => [`c${index}`, cell]))
        })
        const settings = { ...plain, header: false, columns: isArray ? undefined : plain.columns }
        const expected = encode(rows, { ...settings, encoder: 'csv-stringify' })
        assert.deepEqual(encode(rows, settings), expected)
      }
    ),
    { numRuns }
  )
}

/**
 * Compares the texts of dates, over all the years that have four digits.
 *
 * @param days from one date to the next
 */
export function checkDates(t: Test, days: number): void {
  const differing = []
  const dayLength = 86_400_000
  const first = Date.UTC(-1, 12)
  const last = Date.UTC(10_000, 0) - 1
  for (let time = first; time <= last; time += days * dayLength) {
    // Every day at another time of it.
    const date = new Date(Math.min(time + ((((time - first) / dayLength) * 12_347) % dayLength), last))
    if (dateText(date.getTime()) !== date.toISOString()) differing.push(date)
  }
  t.same(differing, [])
  for (const time of [first - 1, last + 1, Number.NaN]) t.equal(dateText(time), undefined)
}
