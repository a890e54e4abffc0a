import assert from 'node:assert/strict'
import fc from 'fast-check'
import { isFormula } from '../../../../plugins/csv-export/csv/formulas.ts'
import type { CsvOptions } from '../../../../plugins/csv-export/options/options.ts'
import type { Dialect, Reader } from '../../../readers.ts'
import { encode } from './encoding.ts'

// Every UTF-16 code unit, so halves of surrogate pairs and NUL too.
const anyText = fc.string({ unit: fc.nat({ max: 0xffff }).map((code) => String.fromCharCode(code)) })
const nastyText = fc.string({
  unit: fc.constantFrom(
    ...'",;\t|\'\r\n\0\\$. -=+@ab\u00a0\u2028\ufeff\ud83d\ude00',
    '\r\n',
    '""',
    '\\.',
    '😀'
  )
})
const text = fc.oneof(anyText, nastyText, fc.string({ unit: 'grapheme' }))
// What readers may take for no record, no field, a byte order mark, or the end of a quoted field.
const hardFirst = fc.constantFrom(
  ' ',
  '  ',
  '\t',
  ' \t ',
  '\u00a0',
  '\ufeff',
  '\ufeffx',
  '\ufeff"',
  '\\',
  '\\"',
  'C:\\',
  '$'
)
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
  hardFirst,
  fc.double(),
  fc.integer(),
  fc.bigInt(),
  fc.date({ noInvalidDate: true }),
  fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
  fc.record({ nested: text, list: fc.array(fc.integer(), { maxLength: 3 }) })
)
// A dot or a bracket makes a name a path, which is not what is tested here.
const columnName = fc.oneof(
  fc.constantFrom('id', '__proto__', 'constructor', 'toString', '', '=x'),
  hardFirst,
  text.map((name) => name.replaceAll(/[.[]/g, ''))
)

export interface Export {
  columns: string[]
  rows: unknown[][]
  arrays: boolean[]
  settings: CsvOptions & Dialect
}

const recordDelimiter = fc.constantFrom('\n', '\r\n', '\r')
const usualDialect = fc.record({
  delimiter: fc.constantFrom(',', ';', '\t', '|'),
  quote: fc.constantFrom('"', '"', '"', "'"),
  escape: fc.constantFrom(undefined, undefined, '\\', '$'),
  recordDelimiter
})
const unusualDialect = fc
  .tuple(
    fc.uniqueArray(fc.constantFrom(...',;\t|"\'\\$:^~#/ 1a-.\x1f'), { minLength: 3, maxLength: 3 }),
    fc.boolean(),
    recordDelimiter
  )
  .map(([[delimiter, quote, other], escapes, recordDelimiter]) => ({
    delimiter: delimiter as string,
    quote: quote as string,
    escape: escapes ? other : undefined,
    recordDelimiter
  }))
const anyDialect: fc.Arbitrary<Dialect> = fc
  .oneof({ weight: 3, arbitrary: usualDialect }, unusualDialect)
  .map((dialect) => ({ ...dialect, escape: dialect.escape ?? dialect.quote }))

export const anyExport: fc.Arbitrary<Export> = fc
  .uniqueArray(columnName, { minLength: 1, maxLength: 5 })
  .chain((columns) =>
    fc.record({
      columns: fc.constant(columns),
      // Fewer cells than columns, too.
      rows: fc.array(fc.array(cell, { maxLength: columns.length }), { maxLength: 6 }),
      arrays: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
      dialect: anyDialect,
      settings: fc.record({
        header: fc.boolean(),
        eof: fc.constantFrom(true, true, false),
        quoted: fc.boolean(),
        quotedString: fc.boolean(),
        quotedMatch: fc.constantFrom(false as const, /a/),
        formulas: fc.constantFrom('keep' as const, 'escape' as const)
      })
    })
  )
  .map(({ dialect, settings, ...rest }) => ({ ...rest, settings: { ...settings, ...dialect } }))

/** The row as an object with its own properties, whatever they are called, and one that has no column. */
function asObject(columns: string[], cells: unknown[]): object {
  const row = { 'no such. column': 'x' }
  for (const [index, value] of cells.slice(0, columns.length).entries()) {
    Object.defineProperty(row, columns[index] as string, { value, enumerable: true, configurable: true })
  }
  return row
}

export function write({ columns, rows, arrays, settings }: Export): Buffer {
  const items = rows.map((cells, index) => (arrays[index] ? cells : asObject(columns, cells)))
  return Buffer.from(encode(items, { columns, ...settings }))
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

export function expected({ columns, rows, settings }: Export): (string | null)[][] {
  const records = rows.map((cells) => columns.map((_, index) => read(cells[index], settings.formulas)))
  const header = columns.map((name) => read(name, settings.formulas))
  return settings.header ? [header, ...records] : records
}

const withoutNull = (records: (string | null)[][]) =>
  records.map((record) => record.map((cell) => cell ?? ''))

export interface ReaderLimits {
  /** How many exports are read. */
  numRuns: number
  /** Whether the reader can hold an export at all. */
  holds?: (input: Export) => boolean
  /** Whether it can tell null from empty text. */
  tellsNull?: (input: Export) => boolean
}

/** Has random exports read back, and compares every cell. */
export async function checkReader(
  readerOf: (columns: number) => Reader,
  { numRuns, holds = () => true, tellsNull = () => false }: ReaderLimits
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
