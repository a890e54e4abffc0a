import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { CsvEncoder } from '../../../../plugins/csv-export/csv/encoder.ts'
import { isFormula } from '../../../../plugins/csv-export/csv/formulas.ts'
import type { CsvOptions } from '../../../../plugins/csv-export/options/options.ts'
import { startEmbeddedPostgres } from '../../../../plugins/embedded-postgres.ts'
import { connect, temporaryFolder } from '../../../database.ts'
import { csvParse, type Dialect, postgres, type Reader, startPython } from '../../../readers.ts'

const numRuns = 1000

// Every UTF-16 code unit, so halves of surrogate pairs and NUL too.
const anyText = fc.string({ unit: fc.nat({ max: 0xffff }).map((code) => String.fromCharCode(code)) })
const nastyText = fc.string({
  unit: fc.constantFrom(
    ...'",;\t|\'\r\n\0\\. -=+@ab\u00a0\u2028\ufeff\ud83d\ude00',
    '\r\n',
    '""',
    '\\.',
    '😀'
  )
})
const text = fc.oneof(anyText, nastyText, fc.string({ unit: 'grapheme' }))
const cell = fc.oneof(
  { weight: 8, arbitrary: text },
  fc.constantFrom<unknown>(
    null,
    undefined,
    '',
    -0,
    Number.NaN,
    Infinity,
    -Infinity,
    true,
    false,
    '\\.',
    '\\N',
    '#'
  ),
  fc.double(),
  fc.integer(),
  fc.bigInt(),
  fc.date({ noInvalidDate: true }),
  fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
  fc.record({ nested: text, list: fc.array(fc.integer(), { maxLength: 3 }) })
)
// A dot or a bracket makes a name a path, which is not what is tested here.
const columnName = fc.oneof(
  fc.constantFrom('id', '__proto__', 'constructor', 'toString', '', '=x', ' '),
  text.map((name) => name.replaceAll(/[.[]/g, ''))
)

interface Export {
  columns: string[]
  rows: unknown[][]
  arrays: boolean[]
  settings: CsvOptions & { delimiter: string; quote: string }
}

const anyExport: fc.Arbitrary<Export> = fc
  .uniqueArray(columnName, { minLength: 1, maxLength: 5 })
  .chain((columns) =>
    fc.record({
      columns: fc.constant(columns),
      // Fewer cells than columns, too.
      rows: fc.array(fc.array(cell, { maxLength: columns.length }), { maxLength: 6 }),
      arrays: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
      settings: fc.record({
        delimiter: fc.constantFrom(',', ';', '\t', '|'),
        recordDelimiter: fc.constantFrom('unix', 'windows', 'mac'),
        quote: fc.constantFrom('"', '"', '"', "'"),
        header: fc.boolean(),
        eof: fc.constantFrom(true, true, false),
        quoted: fc.boolean(),
        quotedString: fc.boolean(),
        quotedMatch: fc.constantFrom(false as const, /a/),
        formulas: fc.constantFrom('keep' as const, 'escape' as const)
      })
    })
  )

/** The row as an object with its own properties, whatever they are called, and one that has no column. */
function asObject(columns: string[], cells: unknown[]): object {
  const row = { 'no such. column': 'x' }
  for (const [index, value] of cells.slice(0, columns.length).entries()) {
    Object.defineProperty(row, columns[index] as string, { value, enumerable: true, configurable: true })
  }
  return row
}

function write({ columns, rows, arrays, settings }: Export): Buffer {
  const encoder = new CsvEncoder({ columns, escape: settings.quote, ...settings })
  let csv = ''
  for (const [index, cells] of rows.entries()) {
    csv += encoder.encode(arrays[index] ? cells : asObject(columns, cells))
  }
  return Buffer.from(csv + encoder.end())
}

/** What docs/csv-format.md says of a cell: the text in it, or null for none. An empty Buffer is no empty string. */
function read(value: unknown, formulas: CsvOptions['formulas']): string | null {
  if (value === null || value === undefined || (value instanceof Uint8Array && value.length === 0))
    return null
  if (value instanceof Date) return value.toISOString()
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') return `${value}`
  const text =
    typeof value === 'string'
      ? value.toWellFormed()
      : value instanceof Uint8Array
        ? Buffer.from(value).toString('base64')
        : JSON.stringify(value)
  return formulas === 'escape' && isFormula(text) ? `'${text}` : text
}

function expected({ columns, rows, settings }: Export): (string | null)[][] {
  const records = rows.map((cells) => columns.map((_, index) => read(cells[index], settings.formulas)))
  const header = columns.map((name) => read(name, settings.formulas))
  return settings.header ? [header, ...records] : records
}

const withoutNull = (records: (string | null)[][]) =>
  records.map((record) => record.map((cell) => cell ?? ''))

/**
 * @param holds whether the reader can hold an export at all
 * @param tellsNull whether it can tell null from empty text
 */
async function checkReader(
  readerOf: (columns: number) => Reader,
  {
    holds = () => true,
    tellsNull = () => false
  }: Partial<Record<'holds' | 'tellsNull', (input: Export) => boolean>> = {}
): Promise<void> {
  let cases = 0
  await fc.assert(
    fc.asyncProperty(anyExport.filter(holds), async (input) => {
      const records = await readerOf(input.columns.length)(write(input), input.settings)
      const wanted = expected(input)
      if (tellsNull(input)) assert.deepEqual(records, wanted)
      else assert.deepEqual(withoutNull(records), withoutNull(wanted))
      cases++
    }),
    { numRuns }
  )
  assert(cases >= numRuns)
}

const dialect: Dialect = { delimiter: ',', quote: '"' }
const long = `"${'a,"\r\n😀'.repeat(1_200_000)}`
const longFile = write({
  columns: ['a', 'b'],
  rows: [[long, 1]],
  arrays: [],
  settings: { ...dialect, header: false }
})
const longRecords = [[long, '1']]

t.test('csv-parse reads the cells that were written', async (t) => {
  await checkReader(() => csvParse)
  assert.deepEqual(await csvParse(longFile, dialect), longRecords)
  t.pass()
})

t.test("Python's csv module reads the cells that were written", async (t) => {
  const python = await startPython(t)
  if (python === undefined) {
    // As nginx: where it must not be missing, a skipped test would hide that nothing was tested.
    t.not(process.env.CI, 'true')
    return t.comment('python3 is not installed: install it to run this')
  }
  await checkReader(() => python)
  assert.deepEqual(await python(longFile, dialect), longRecords)
  t.pass()
})

t.test('PostgreSQL reads the cells that were written', async (t) => {
  const { url, stop } = await startEmbeddedPostgres({ folder: await temporaryFolder(t) })
  t.teardown(stop)
  const client = await connect(t, url)
  const withNul = (value: unknown) => `${read(value, 'keep')}`.includes('\0')
  const holds = ({ columns, rows }: Export) => !columns.some(withNul) && !rows.flat().some(withNul)
  const tellsNull = ({ columns, settings }: Export) => settings.quotedString === true && columns.length > 1
  await checkReader((columns) => postgres(client, columns), { holds, tellsNull })
  assert.deepEqual(await postgres(client, 2)(longFile, dialect), longRecords)
  await t.rejects(
    postgres(client, 1)(Buffer.from('a\0b\n'), dialect),
    /invalid byte sequence for encoding "UTF8": 0x00/,
    'NUL is an error'
  )
})

const unwritable = fc.constantFrom<unknown>(
  Symbol('x'),
  () => 1,
  new Date(Number.NaN),
  { x: 1n },
  [Symbol.iterator, 1n],
  (() => {
    const circular: unknown[] = []
    circular.push(circular)
    return circular
  })()
)

t.test('what cannot be written is an error that names row and column', async (t) => {
  const badExport = anyExport
    .filter(({ rows }) => rows.length > 0)
    .chain((input) =>
      fc.record({
        input: fc.constant(input),
        row: fc.nat({ max: input.rows.length - 1 }),
        column: fc.nat({ max: input.columns.length - 1 }),
        bad: unwritable
      })
    )
  fc.assert(
    fc.property(badExport, ({ input, row, column, bad }) => {
      const rows = input.rows.with(row, Object.assign([...(input.rows[row] as unknown[])], { [column]: bad }))
      const name = JSON.stringify(input.columns[column])
      assert.throws(
        () => write({ ...input, rows }),
        (error: any) =>
          error.code === 'CSV_EXPORT_INVALID_ROW' &&
          error.message.startsWith(`row ${row + 1}: column ${name}: `)
      )
    }),
    { numRuns }
  )
  t.pass()
})
