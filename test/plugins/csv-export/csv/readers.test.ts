import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { connect, startDatabase } from '../../../database.ts'
import { skipWithout } from '../../../programs.ts'
import { csvParse, type Dialect, fastCsv, papaparse, postgres, startPython } from '../../../readers.ts'
import { anyExport, checkReader, type Export, write } from './random-exports.ts'
import { holds } from './reader-limits.ts'

const numRuns = 40

const dialect: Dialect = { delimiter: ',', quote: '"', escape: '"', recordDelimiter: '\n' }
const long = `"${'a,"\r\n😀'.repeat(1_200_000)}`
const longFile = write({
  columns: ['a', 'b'],
  rows: [[long, 1]],
  arrays: [],
  settings: { ...dialect, header: false }
})
const longRecords = [[long, '1']]

t.test('csv-parse reads the cells that were written', async (t) => {
  await checkReader(() => csvParse, { numRuns, holds: holds.csvParse })
  assert.deepEqual(await csvParse(longFile, dialect), longRecords)
  t.pass()
})

t.test('papaparse reads the cells that were written', async (t) => {
  await checkReader(() => papaparse, { numRuns, holds: holds.papaparse })
  assert.deepEqual(await papaparse(longFile, dialect), longRecords)
  t.pass()
})

t.test('fast-csv reads the cells that were written', async (t) => {
  await checkReader(() => fastCsv, { numRuns, holds: holds.fastCsv })
  t.pass()
})

const skip = skipWithout('python3', 'python3', '--version')

t.test("Python's csv module reads the cells that were written", { skip }, async (t) => {
  const python = startPython(t)
  await checkReader(() => python, { numRuns, holds: holds.python })
  assert.deepEqual(await python(longFile, dialect), longRecords)
  t.pass()
})

t.test('PostgreSQL reads the cells that were written', async (t) => {
  const client = await connect(t, await startDatabase(t, { rows: 0 }))
  const tellsNull = ({ columns, settings }: Export) => settings.quotedString === true && columns.length > 1
  await checkReader((columns) => postgres(client, columns), { numRuns, holds: holds.postgres, tellsNull })
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
