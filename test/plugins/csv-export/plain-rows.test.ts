import fc from 'fast-check'
import t from 'tap'
import { CsvEncoder } from '../../../plugins/csv-export/encoder.ts'
import { type CsvOptions, toStringifyOptions } from '../../../plugins/csv-export/options.ts'

const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom('"', ',', ';', '\t', '\r', '\n', "'", '|', ' ', 'a', '=', '\u2028') })
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
    escapeFormulas: fc.constantFrom(false, false, true),
    quoteRecordDelimiter: fc.constantFrom(true, true, false),
    quotedMatch: fc.constantFrom(false as const, false as const, /a/g)
  },
  { requiredKeys: [] }
)

/** The text up to the first error, and the error's message. */
function encode(rows: unknown[], settings: CsvOptions, plainRowsWanted: boolean): [string, string] {
  let text = ''
  try {
    const encoder = new CsvEncoder(toStringifyOptions(settings), plainRowsWanted)
    for (const item of rows) text += encoder.encode(item)
    return [text + encoder.end(), '']
  } catch (error) {
    return [text, (error as Error).message]
  }
}

t.test('plain rows are written as csv-stringify writes them', async (t) => {
  fc.assert(
    fc.property(fc.array(row, { maxLength: 6 }), options, (rows, settings) => {
      const [expected, expectedError] = encode(rows, settings, false)
      const [actual, actualError] = encode(rows, settings, true)
      return expected === actual && expectedError === actualError
    }),
    { numRuns: 20_000 }
  )
  t.pass('not one byte apart')
})
