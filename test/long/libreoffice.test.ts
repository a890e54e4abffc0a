import fc from 'fast-check'
import t from 'tap'
import type { CsvOptions } from '../../plugins/csv-export/index.ts'
import { temporaryFolder } from '../database.ts'
import { serve } from '../helper.ts'
import { blanks, formulas, signs } from '../plugins/csv-export/csv/formula-cells.ts'
import { skipWithout } from '../programs.ts'
import { formulasIn, openInLibreOffice } from './libreoffice.ts'
import { scaled, scaledTimeout } from './scale.ts'

const skip = skipWithout('LibreOffice (libreoffice-calc-nogui)', 'soffice', '--version')
const separators = [',', ';', '\t', '|']

const behindSeparators = separators.flatMap((separator) =>
  ['a_=1+1', 'a_=1+1_b', '_=1+1', 'a _ =1+1', 'a"_=1+1', '"_"=1+1'].map((text) =>
    text.replaceAll('_', separator)
  )
)
const behindLineBreaks = ['\n', '\r', '\r\n'].flatMap((lineBreak) => [
  `a${lineBreak}=1+1`,
  `a${lineBreak}=1+1${lineBreak}b`
])
const attacks = [
  ...signs.flatMap((sign) => blanks.map((blank) => `${blank}${sign}1+1`)),
  ...formulas,
  ...behindSeparators
]
const random = fc.sample(
  fc.string({ unit: fc.constantFrom(...'=+-@＝1a"\' \u00a0\ufeff', ...separators), maxLength: 12 }),
  scaled(5_000)
)
const cells = [...attacks, ...random]

const alone = [...cells, ...behindLineBreaks, 'the last cell'].map((cell) => [cell])
const among = [...cells, 'the last cell'].map((cell) => ['x', cell, 'y'])
const columns = ['a', 'b', 'c']

interface Sheet {
  name: string
  rows: string[][]
  options: CsvOptions
  hasFormulas?: boolean
}

/** @param separator at which they are opened */
function sheetsFor(separator: string): Sheet[] {
  const others = separators.filter((other) => other !== separator)
  return Object.entries({ alone, among }).flatMap(([place, rows]): Sheet[] => {
    const sheet = (name: string, options: CsvOptions): Sheet => ({
      name: `${name}, each cell ${place}`,
      rows,
      options: { columns: columns.slice(0, rows[0]?.length), header: false, ...options }
    })
    return [
      { ...sheet('keep', { delimiter: separator }), hasFormulas: true },
      sheet('escape', { delimiter: separator, formulas: 'escape' }),
      sheet('excel', { delimiter: separator, excel: true }),
      ...others.map((delimiter) => ({
        ...sheet(`excel, written with ${JSON.stringify(delimiter)}`, { delimiter, excel: true }),
        // Quotes that do not begin a field are no quotes: docs/csv-format.md says so.
        hasFormulas: rows === among
      }))
    ]
  })
}

t.setTimeout(scaledTimeout(300_000))
t.test('LibreOffice finds no formula where they are escaped', { skip }, async (t) => {
  let sheet: Sheet
  const { app } = await serve(t, (app) =>
    app.get('/', (_request, reply) => reply.csv(sheet.rows, sheet.options))
  )
  for (const separator of separators) {
    const sheets = sheetsFor(separator)
    const files: Buffer[] = []
    for (sheet of sheets) files.push((await app.inject('/')).rawPayload)
    const opened = await openInLibreOffice(await temporaryFolder(t), files, separator)
    for (const [index, { name, hasFormulas = false }] of sheets.entries()) {
      const xml = opened[index] as string
      const found = formulasIn(xml)
      const title = `opened at ${JSON.stringify(separator)}: ${name}`
      t.ok(xml.includes('the last cell'), `${title}: is read to the end`)
      t.equal(found.length > 0, hasFormulas, `${title}: ${found.length} formulas`, {
        found: found.slice(0, 10)
      })
    }
  }
})
