import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { CsvEncoder } from '../../../plugins/csv-export/encoder.ts'
import type { CsvOptions } from '../../../plugins/csv-export/options.ts'

const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({
    unit: fc.constantFrom(
      '"',
      ',',
      ';',
      '\t',
      '\r',
      '\n',
      "'",
      '|',
      ' ',
      'a',
      '=',
      '-',
      '5',
      '\\',
      '.',
      '\u2028'
    )
  })
)
const value = fc.oneof(
  { weight: 6, arbitrary: text },
  fc.double(),
  fc.integer(),
  fc.bigInt(),
  fc.boolean(),
  fc.date(),
  fc.constantFrom(null, undefined, -0, Number.NaN, '', Buffer.from('x'), new Date(Number.NaN)),
  fc.record({ nested: text }),
  fc.constantFrom(Symbol('x'))
)
const key = fc.constantFrom('id', 'name', 'a b', 'größe', 'a.b', 'a[0]', '__proto__', 'constructor', '')
const row = fc.oneof(
  { weight: 4, arbitrary: fc.dictionary(key, value) },
  { weight: 2, arbitrary: fc.array(value, { maxLength: 5 }) },
  fc.record({ id: value, name: value, a: fc.record({ b: value }) })
)
const options: fc.Arbitrary<CsvOptions> = fc.record(
  {
    columns: fc.array(
      fc.oneof(
        key,
        key.map((name) => ({ key: name })),
        fc.record({ key, header: text })
      )
    ),
    header: fc.boolean(),
    bom: fc.boolean(),
    eof: fc.constantFrom(true, true, false),
    delimiter: fc.constantFrom(',', ',', ';', '\t', '|', '::', '-', ']', '\\', '^'),
    recordDelimiter: fc.constantFrom('\n', '\n', 'windows', 'mac', 'unicode', '--'),
    quote: fc.constantFrom<string | boolean>('"', '"', "'", ']', '\\', false),
    escape: fc.constantFrom('"', '"', "'", '\\'),
    quoted: fc.constantFrom(false, false, true),
    quotedEmpty: fc.constantFrom(undefined, undefined, true),
    quotedString: fc.constantFrom(false, false, true),
    formulas: fc.constantFrom('keep' as const, 'escape' as const, 'reject' as const),
    quoteRecordDelimiter: fc.constantFrom(true, true, false),
    quotedMatch: fc.constantFrom(false as const, false as const, /a/g)
  },
  { requiredKeys: [] }
)

/** The text up to the first error, the error's message and the number of escaped cells. */
function encode(rows: unknown[], settings: CsvOptions, plainRowsWanted: boolean): unknown[] {
  let text = ''
  try {
    const encoder = new CsvEncoder(settings, plainRowsWanted)
    for (const item of rows) text += encoder.encode(item)
    return [text + encoder.end(), '', encoder.escapedCells]
  } catch (error) {
    return [text, (error as Error).message]
  }
}

t.test('plain rows are written as csv-stringify writes them', async (t) => {
  fc.assert(
    fc.property(fc.array(row, { maxLength: 6 }), options, (rows, settings) => {
      assert.deepEqual(encode(rows, settings, true), encode(rows, settings, false))
    }),
    { numRuns: 20_000 }
  )
  t.pass('not one byte apart')
})
