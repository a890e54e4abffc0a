import t from 'tap'
import type { CsvOptions } from '../../../../plugins/csv-export/options/options.ts'
import { bothWays, encode } from './encoding.ts'

const blanks = [' ', '   ', '\t', ' \t', '\u00a0', '\u2003', '\ufeff ', '\v', '\f']

t.test('the record of one field that is blank is quoted', async (t) => {
  for (const blank of blanks) {
    for (const encoder of bothWays) {
      const rows = [{ a: 'x' }, { a: blank }, { a: blank }]
      t.equal(encode(rows, { encoder }), `a\nx\n"${blank}"\n"${blank}"\n`)
      t.equal(encode([['x'], [blank]], { header: false, encoder }), `x\n"${blank}"\n`)
    }
    t.equal(encode([], { columns: [blank] }), `"${blank}"\n`)
  }
})

t.test('a first field that is blank is quoted, no other', async (t) => {
  for (const blank of blanks) {
    for (const encoder of bothWays) {
      const rows = [{ a: 'x', b: 'y' }, ...Array(2).fill({ a: blank, b: blank })]
      t.equal(
        encode(rows, { encoder, delimiter: ';' }),
        `a;b\nx;y\n"${blank}";${blank}\n"${blank}";${blank}\n`
      )
    }
  }
  t.equal(encode([{ a: '', b: '' }]), 'a,b\n,\n')
  t.equal(encode([{ a: ' x', b: 1 }]), 'a,b\n x,1\n')
})

t.test('a first field that begins like a byte order mark is quoted', async (t) => {
  const mark = '\ufeffx'
  for (const encoder of bothWays) {
    const rows = [
      [mark, mark],
      [mark, mark]
    ]
    const line = `"${mark}",${mark}\n`
    t.equal(encode(rows, { columns: [mark, 'b'], encoder }), `"${mark}",b\n${line}${line}`)
    t.equal(encode(rows, { header: false, bom: true, encoder }), `\ufeff${line}${line}`)
    t.equal(encode(rows, { header: false, headerAsComment: true, encoder }), line + line)
  }
})

t.test('where the header is a comment, a field that would begin another is quoted', async (t) => {
  for (const encoder of bothWays) {
    const rows = Array(3).fill({ id: '#1', room: 'Room #5', price: '$/1' })
    const settings = { encoder, endMark: '#END' }
    const withHeader = (line: string, mark: string) => `${mark} id,room,price\n${line.repeat(3)}#END 3,,\n`
    t.equal(
      encode(rows, { ...settings, headerAsComment: true }),
      withHeader('"#1","Room #5",$/1\n', '#'),
      'the end mark may be one'
    )
    t.equal(encode(rows, { ...settings, headerAsComment: '$/' }), withHeader('#1,Room #5,"$/1"\n', '$/'))
    const withoutHeader = { encoder, header: false, headerAsComment: true }
    t.equal(encode(rows, withoutHeader), '#1,Room #5,$/1\n'.repeat(3), 'no comment is written')
  }
  for (const [header, settings] of [
    ['a\nb', {}],
    ['a\rb', {}],
    ['a\u2028b', { recordDelimiter: 'unicode' }]
  ] as const) {
    t.throws(() => encode([], { columns: [header], headerAsComment: true, ...settings }), {
      code: 'CSV_EXPORT_INVALID_ROW',
      message: `header: column ${JSON.stringify(header)}: ${JSON.stringify(header)} has a line break, which would end the comment`
    })
  }
})

t.test('a quote that is a blank is put around a field once', async (t) => {
  const rows = Array(2).fill({ a: ' ', b: 1 })
  for (const encoder of bothWays) t.equal(encode(rows, { quote: ' ', encoder }), 'a,b\n    ,1\n    ,1\n')
})

t.test('without a quote, what needs one is an error', async (t) => {
  const fails = (rows: unknown[], settings: CsvOptions = {}) =>
    t.throws(() => encode(rows, { quote: false, ...settings }), {
      code: 'CSV_EXPORT_INVALID_ROW',
      message: /needs quotes, and there are none$/
    })
  fails([{ a: ' ' }])
  fails([{ a: ' ', b: 1 }])
  fails([{ '\ufeffa': 1 }])
  fails([{ a: 'x;y', b: 1 }], { excel: true })
  t.equal(encode([{ a: '', b: ' ' }], { quote: false }), 'a,b\n, \n')
})

t.test('the escape is the quote unless given', async (t) => {
  for (const encoder of bothWays) {
    const rows = Array(3).fill({ a: "O'Brien", b: 'say "hi"' })
    const line = `'O''Brien',say "hi"\n`
    t.equal(encode(rows, { quote: "'", header: false, encoder }), line.repeat(3))
    t.equal(encode(rows, { quote: Buffer.from("'"), header: false, encoder }), line.repeat(3))
    t.equal(encode(rows, { quote: true, header: false, encoder }), `O'Brien,"say ""hi"""\n`.repeat(3))
  }
})

t.test('where the escape is not the quote, a field with it is quoted and it is doubled', async (t) => {
  for (const encoder of bothWays) {
    const written = (rows: unknown[][], escapeCharacter: string) =>
      encode(rows, { escape: escapeCharacter, header: false, encoder })
    t.equal(
      written(
        [
          ['C:\\', 1],
          ['D:\\tmp', '"\\']
        ],
        '\\'
      ),
      '"C:\\\\",1\n"D:\\\\tmp","\\"\\\\"\n'
    )
    t.equal(
      written(
        [
          [1.5, -1],
          [new Date(0), 'a.b']
        ],
        '.'
      ),
      '"1..5",-1\n"1970-01-01T00:00:00..000Z","a..b"\n'
    )
    t.equal(written([[-1, 5n]], '-'), '"--1",5\n')
  }
  t.equal(encode([], { columns: ['a\\b'], escape: '\\' }), '"a\\\\b"\n')
})

t.test('a file for Excel has quotes around what another separator would split', async (t) => {
  for (const encoder of bothWays) {
    for (const delimiter of [',', ';', '\t', '|']) {
      const rows = Array(3).fill({ a: 1, b: 'x;=1+1', c: 'x\t=1+1', d: 'x|=1', e: 'x,=1', f: 'x y' })
      const line = ['1', '"x;=1+1"', '"x\t=1+1"', '"x|=1"', '"x,=1"', 'x y\r\n'].join(delimiter)
      t.equal(
        encode(rows, { excel: true, delimiter, header: false, recordDelimiter: '\r\n', encoder }),
        line.repeat(3)
      )
    }
  }
  t.equal(encode([{ a: 'x;=1' }], { header: false }), 'x;=1\n', 'no other has')
})

t.test('what an expression of quotedMatch throws says its row', async (t) => {
  const quotedMatch = Object.assign(/x/, {
    exec() {
      throw new Error('too long')
    }
  })
  t.throws(() => encode([{ a: 'x' }], { header: false, quotedMatch }), {
    code: 'CSV_EXPORT_INVALID_ROW',
    message: 'row 1: too long'
  })
})
