import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { isFormula } from '../../../../plugins/csv-export/csv/formulas.ts'
import type { CsvOptions } from '../../../../plugins/csv-export/options/options.ts'
import { serve } from '../../../helper.ts'
import { encoderOf } from './encoding.ts'
import { blanks, formulas, signs } from './formula-cells.ts'

/** A text that may stand in the name of a test. */
const ascii = (text: string) =>
  JSON.stringify(text).replace(
    /[^ -~]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  )

function encode(rows: readonly object[], settings: CsvOptions) {
  const encoder = encoderOf(settings)
  const text = rows.map((row) => encoder.encode(row)).join('') + encoder.end()
  return { text, escapedCells: encoder.escapedCells }
}

t.test('what a spreadsheet would run is a formula, whatever stands before it', async (t) => {
  for (const sign of signs) {
    t.ok(isFormula(sign), ascii(sign))
    for (const blank of blanks) {
      t.ok(isFormula(`${blank}${sign}x`), ascii(blank + sign))
      t.ok(isFormula(`${blank}${blank} ${sign}x`), ascii(blank + sign))
    }
  }
  for (const text of formulas) t.ok(isFormula(text), ascii(text))
})

t.test('numbers, phone numbers and text are no formulas', async (t) => {
  const texts = [
    ...['', ' ', 'x', "'=1", 'a=1', '1+1', '5', '.5', '|cmd', '%0A=1', '{"a":"=1"}', '\ud83d=', '(5)'],
    ...['-5', '+5', ' -5', '-5 ', '-.5', '-0.5', '-1.5e10', '-1e+21', '-1E-7', '\u22125', '-5%', '-5 %'],
    ...['-1,234.56', '-1.234,56', '-1 234,56', '-1\u00a0234,56', '-1\u202f234,56', "-1'234.50", '-12,34,567'],
    ...['+351 21', '+351 21 123-45-67', '+1 (555) 123', '+1-800-555-0199', '+(351) 21.123', '+351211234567']
  ]
  for (const text of texts) t.notOk(isFormula(text), ascii(text))
})

t.test('no character becomes one of the four signs behind the back of the guard', async (t) => {
  for (let codePoint = 0; codePoint <= 0x10ffff; codePoint++) {
    const character = String.fromCodePoint(codePoint)
    if (!/^[=+\-@\u2212]/.test(character.normalize('NFKC').trim())) continue
    if (!isFormula(`${character}x`)) t.fail(`U+${codePoint.toString(16)}`)
  }
  t.pass('all of Unicode')
})

t.test('a long text is tested in a blink', async (t) => {
  const long = 10_000_000
  const texts = [
    ' '.repeat(long),
    `+${'1'.repeat(long)}x`,
    `-${'1,'.repeat(long / 2)}x`,
    `+${'1 '.repeat(long / 2)}x`
  ]
  const start = performance.now()
  for (const text of texts) isFormula(text)
  t.ok(performance.now() - start < 3000)
})

const rows = [
  { '=name': 'Ada', value: -5, when: new Date(8.64e15) },
  { '=name': '=1', value: -5n, when: '\t@x,"' },
  { '=name': '-5', value: Buffer.from([0xfb, 0xff]), when: ['=1'] },
  { '=name': '\n=1', value: { toJSON: () => '=1' }, when: null }
]

t.test('escape puts an apostrophe in front and counts; numbers and dates are kept', async (t) => {
  for (const encoder of ['auto', 'csv-stringify'] as const) {
    const { text, escapedCells } = encode(rows, { formulas: 'escape', encoder })
    t.equal(
      text,
      `'=name,value,when
Ada,-5,+275760-09-13T00:00:00.000Z
'=1,-5,"'\t@x,"""
-5,'+/8=,"[""=1""]"
"'
=1",'=1,
`
    )
    t.equal(escapedCells, 6)
  }
})

t.test('keep, the default, changes nothing', async (t) => {
  const { text, escapedCells } = encode([{ '=a': '=1' }, { '=a': '=2' }], {})
  t.equal(text, '=a\n=1\n=2\n')
  t.equal(escapedCells, 0)
})

t.test('reject names row and column', async (t) => {
  const fails = (rows: readonly object[], settings: CsvOptions, message: RegExp) =>
    t.throws(() => encode(rows, { formulas: 'reject', ...settings }), { code: 'CSV_EXPORT_FORMULA', message })
  const plain = [{ a: 'x' }, { a: -5 }, { a: '-5' }]
  fails([...plain, { a: ' =1' }], {}, /^row 4: column "a": a spreadsheet would run/)
  fails([{ a: '=1' }], {}, /^row 1: column "a"/)
  fails([['x', '=1']], { header: false }, /^row 1: column 2: /)
  fails([['x', '=1']], { columns: ['a', 'b'] }, /^row 1: column "b"/)
  fails([{ '@a': 1 }], {}, /^header: column "@a"/)
  fails([], { columns: [{ key: 'a', header: '@a' }] }, /^header: column "a"/)
  fails([{ a: 5 }], { cast: { number: () => '=1' } }, /^row 1: column "a"/)
  t.equal(encode(plain, { formulas: 'reject' }).text, 'a\nx\n-5\n-5\n')
})

t.test('what a cast returns is guarded too', async (t) => {
  const cast: CsvOptions['cast'] = {
    number: (value) => `=${value}`,
    boolean: () => ({ value: '@x', quoted: true }),
    bigint: (value) => `-${value}`,
    null: () => '=null'
  }
  const { text, escapedCells } = encode([{ a: 1, b: true, c: 5n, d: null, e: '=e' }], {
    header: false,
    formulas: 'escape',
    cast
  })
  t.equal(text, `'=1,"'@x",-5,'=null,'=e\n`)
  t.equal(escapedCells, 4)
})

t.test('quoting is as without the guard', async (t) => {
  const row = { a: '=1', b: '', c: -5, d: "=it's" }
  const line = (settings: CsvOptions) =>
    encode([row], { header: false, formulas: 'escape', ...settings }).text
  t.equal(line({ quotedString: true }), `"'=1","",-5,"'=it's"\n`)
  t.equal(line({ quoted: true }), `"'=1",,"-5","'=it's"\n`)
  t.equal(line({ quotedEmpty: true }), `'=1,"",-5,'=it's\n`)
  t.equal(line({ quotedMatch: /^'=1/ }), `"'=1",,-5,'=it's\n`, 'a match is with what is written')
  t.equal(line({ quote: "'", escape: "'" }), `'''=1',,-5,'''=it''s'\n`, 'the apostrophe may be the quote')
  t.equal(line({ quote: "'", escape: '\\' }), `'\\'=1',,-5,'\\'=it\\'s'\n`)
})

t.test('an escaped cell is text after whatever stands before it is taken away', () => {
  const start = fc.string({ unit: fc.oneof(fc.constantFrom(...blanks), fc.constantFrom(...'=+-@＝1')) })
  fc.assert(
    fc.property(start, fc.string(), (start, rest) => {
      const { text } = encode([[start + rest]], {
        header: false,
        formulas: 'escape',
        quote: '\u0002',
        delimiter: '\u0001'
      })
      const first = text
        .replaceAll(/["\p{White_Space}\p{C}\p{Default_Ignorable_Code_Point}]/gu, '')
        .normalize('NFKC')
      assert(!/^[=@]/.test(first) && !/^[+-][^\d.,(]/.test(first), JSON.stringify(text))
    }),
    { examples: [['', '']] }
  )
  return Promise.resolve()
})

t.test('the excel preset, beaten by what is given beside it', async (t) => {
  const { url } = await serve(
    t,
    (app) => {
      const data = [{ a: '=1', b: 'ü' }]
      const options: Record<string, CsvOptions> = {
        preset: { excel: true },
        semicolon: { excel: true, delimiter: ';', bom: false },
        keep: { excel: true, formulas: 'keep', recordDelimiter: '\n' },
        off: { excel: false },
        inherited: {}
      }
      app.get<{ Params: { name: string } }>('/:name', (request, reply) =>
        reply.csv(data, options[request.params.name])
      )
    },
    { defaults: { delimiter: '|', excel: true } }
  )
  const body = async (name: string) =>
    Buffer.from(await (await fetch(`${url}/${name}`)).arrayBuffer()).toString()
  t.equal(await body('preset'), "\ufeffa|b\r\n'=1|ü\r\n")
  t.equal(await body('semicolon'), "a;b\r\n'=1;ü\r\n")
  t.equal(await body('keep'), '\ufeffa|b\n=1|ü\n')
  t.equal(await body('off'), 'a|b\n=1|ü\n')
  t.equal(await body('inherited'), "\ufeffa|b\r\n'=1|ü\r\n")
})

t.test('a header sent ahead of its rows is counted once, and the end mark is as it was given', async (t) => {
  for (const formulas of ['escape', 'keep'] as const) {
    const encoder = encoderOf({ columns: ['=a'], endMark: '-- end', formulas })
    const sign = formulas === 'escape' ? "'" : ''
    t.equal(encoder.begin(), `${sign}=a\n`)
    t.equal(encoder.encode({ '=a': '@x' }), `${sign}@x\n`)
    t.equal(encoder.end(), '-- end 1\n')
    t.equal(encoder.escapedCells, formulas === 'escape' ? 2 : 0)
  }
  const empty = encoderOf({ columns: ['=a'], endMark: '-- end', formulas: 'escape' })
  t.equal(empty.end(), "'=a\n-- end 0\n")
  t.equal(empty.escapedCells, 1)
  t.equal(encoderOf({ endMark: '=end', formulas: 'reject' }).end(), '=end 0\n')
})
