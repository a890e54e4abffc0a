import { readFile } from 'node:fs/promises'
import { stringify } from 'csv-stringify/sync'
import t from 'tap'
import type { CsvOptions } from '../../../../plugins/csv-export/options/options.ts'
import { type Case, fieldCases } from './dialect-fields.ts'
import { encoderOf } from './encoding.ts'

const objects = [
  { field1: 'val11', field2: 'val12', field3: 'val13' },
  { field1: 'val21', field2: 'val22', field3: 'val23' }
]
const nested = [
  { a: { a1: '1a1', a2: '1a2' }, b: '1b' },
  { a: { a1: '2a1', a2: '2a2' }, b: '2b' }
]

/**
 * What csv-stringify's own tests say of its output, so that it stays ours: rows, options, text.
 * https://github.com/adaltas/node-csv/tree/master/packages/csv-stringify/test
 * Not here: its streams and callbacks, wrong options (options.test.ts), an empty delimiter, columns as an object and a
 * cast's own escape, which we do not take, and `escape_formulas`, which is not ours (formulas.test.ts).
 */
const cases: Record<string, Case[]> = {
  ...fieldCases,
  rows: [
    [
      [
        ['field_1', 'field_2'],
        ['value 1', 'value 2']
      ],
      {},
      'field_1,field_2\nvalue 1,value 2'
    ],
    [
      [
        { a: '1', b: '2' },
        { a: '3', b: '4' }
      ],
      {},
      '1,2\n3,4'
    ],
    [
      Array.from({ length: 3 }, (_, n) => [`Test ${n}`, n, '"']),
      {},
      'Test 0,0,""""\nTest 1,1,""""\nTest 2,2,""""'
    ],
    [
      Array.from({ length: 3 }, (_, n) => ({ name: `Test ${n}`, value: n, escape: '"', ovni: `ET ${n}` })),
      { columns: ['name', 'value', 'escape'] },
      'Test 0,0,""""\nTest 1,1,""""\nTest 2,2,""""'
    ],
    [[{ value: 9007199254740991n }], {}, '9007199254740991'],
    [[{ value: { a: 1 } }], {}, '"{""a"":1}"']
  ],
  columns: [
    [
      [
        { a: '11', b: '12' },
        { a: '21', b: '22' }
      ],
      { columns: [{ key: 'b' }, { key: 'a' }] },
      '12,11\n22,21'
    ],
    [
      [
        { a: '11', b: '12' },
        { a: '21', b: '22' }
      ],
      { columns: ['b', 'a'] },
      '12,11\n22,21'
    ],
    [nested, { columns: ['b', 'a.a2'] }, '1b,1a2\n2b,2a2'],
    [
      [
        { a: [{}, { a2: '1a2' }], b: '1b' },
        { a: [{}, { a2: '2a2' }], b: '2b' }
      ],
      { columns: ['b', 'a[1].a2'] },
      '1b,1a2\n2b,2a2'
    ],
    [
      [
        { a: undefined, b: '1b' },
        { a: null, b: '2b' },
        { a: false, b: '3b' }
      ],
      { columns: ['b', 'a.a2'] },
      '1b,\n2b,\n3b,'
    ]
  ],
  header: [
    [objects, { header: true }, 'field1,field2,field3\nval11,val12,val13\nval21,val22,val23'],
    [[{ 'foo.bar': '1' }, { 'foo.bar': '2' }], { header: true }, 'foo.bar\n1\n2'],
    [[], { header: true, columns: ['some', 'headers'] }, 'some,headers'],
    [[], { columns: ['some', 'headers'] }, ''],
    [
      [
        { a: 20322051544, b: '1979', c: '8.8017226E7' },
        { a: 28392898392, b: '1974', c: '8.8392926E7' }
      ],
      { header: true, columns: ['a', 'c'] },
      'a,c\n20322051544,8.8017226E7\n28392898392,8.8392926E7'
    ],
    [
      objects,
      {
        header: true,
        columns: [
          { key: 'field1', header: 'column1' },
          { key: 'field3', header: 'column3' }
        ]
      },
      'column1,column3\nval11,val13\nval21,val23'
    ],
    [
      [
        { field1: { nested: 'val11' }, field3: 'val13' },
        { field1: {}, field3: 'val23' }
      ],
      { header: true, columns: [{ key: 'field1.nested', header: 'column1' }, { key: 'field3' }] },
      'column1,field3\nval11,val13\n,val23'
    ],
    [
      [
        { a: '1', b: '2', c: '3' },
        { a: '4', b: '5', c: '6' }
      ],
      { header: true, quotedEmpty: true, delimiter: '|' },
      'a|b|c\n1|2|3\n4|5|6'
    ],
    ...[true, '//', Buffer.from('//')].map(
      (headerAsComment): Case => [
        objects,
        { header: true, headerAsComment },
        `${headerAsComment === true ? '#' : '//'} field1,field2,field3\nval11,val12,val13\nval21,val22,val23`
      ]
    )
  ],
  bom: [
    [[{ value: 'ok' }], { header: true, bom: true }, '\ufeffvalue\nok'],
    [[{ value: 'ok' }], { bom: false }, 'ok']
  ],
  cast: [
    [[{ value: 9007199254740991n }], { cast: { bigint: (value) => String(value / 2n) } }, '4503599627370495'],
    [[{ value: true }], { cast: { boolean: () => 'X' } }, 'X'],
    [[{ value: new Date() }], { cast: { date: () => 'X' } }, 'X'],
    [[{ value: new Date(5) }], { cast: { date: (value) => String(value.getTime()) } }, '5'],
    [[{ value: 3.14 }], { cast: { number: (value) => String(value * 2) } }, '6.28'],
    [[{ value: { a: 1 } }], { cast: { object: () => 'X' } }, 'X'],
    [[{ value: 'ok' }], { cast: { string: () => 'X' } }, 'X'],
    ...[null, undefined].map(
      (b): Case => [
        [{ a: 'foo', b, c: 'bar' }],
        { header: true, cast: { [String(b)]: () => ({ value: 'NULL', quoted: false }) } },
        'a,b,c\nfoo,NULL,bar'
      ]
    ),
    [[{ a: 'foo', b: null, c: 'bar' }], { quoted: true, cast: { null: () => 'NULL' } }, '"foo","NULL","bar"'],
    [
      [
        [true, true],
        [false, true],
        [true, false],
        [false, false]
      ],
      { cast: { boolean: (value) => (value ? '1' : null) as string } },
      '1,1\n,1\n1,\n,'
    ],
    [
      [['value 1'], ['value 2']],
      { header: true, columns: ['header'], cast: { string: (value, { header }) => `${value} | ${header}` } },
      'header | true\nvalue 1 | false\nvalue 2 | false'
    ]
  ]
}

const lineEnds: Record<string, string> = {
  unix: '\n',
  mac: '\r',
  windows: '\r\n',
  ascii: '\u001e',
  unicode: '\u2028'
}

/** Its own cases that are not ours: docs/csv-format.md says what becomes of each. */
const differing: { rows: object[]; options: CsvOptions; theirs: string; ours: string }[] = [
  { rows: [['a.b']], options: { quote: '.' }, theirs: '.a".b.', ours: '.a..b.' },
  {
    rows: [['1"2'], ['\\abc'], ['def\\']],
    options: { escape: '\\' },
    theirs: '"1\\"2"\n\\abc\ndef\\',
    ours: '"1\\"2"\n"\\\\abc"\n"def\\\\"'
  },
  {
    rows: [['1', '1979', '8']],
    options: { columns: ['a', 'b'] },
    theirs: '1,1979',
    ours: 'row 1: an array of 3 cells for 2 columns'
  },
  {
    rows: [[20322051544, 1979, 'ABC', 45]],
    options: { header: true, columns: ['a', 'b'] },
    theirs: 'a,b\n20322051544,1979',
    ours: 'row 1: an array of 4 cells for 2 columns'
  }
]

function encode(rows: readonly object[], settings: CsvOptions): string {
  const encoder = encoderOf(settings)
  return rows.map((row) => encoder.encode(row)).join('') + encoder.end()
}

for (const [name, list] of Object.entries(cases)) {
  t.test(`csv-stringify's own cases: ${name}`, async (t) => {
    for (const [rows, options, text] of list) {
      const settings = { header: false, ...options }
      const { recordDelimiter = 'unix' } = options
      const line = lineEnds[String(recordDelimiter)] ?? String(recordDelimiter)
      const whole = text === '' ? '' : text + line
      for (const encoder of ['auto', 'csv-stringify'] as const) {
        t.equal(encode(rows, { ...settings, encoder, eof: false }), text)
        t.equal(encode(rows, { ...settings, encoder }), whole)
        // The first row is always csv-stringify's: so that each is once another one.
        if (!settings.header) t.equal(encode([...rows, ...rows], { ...settings, encoder }), whole.repeat(2))
      }
    }
  })
}

t.test('where they are not ours, the docs say what is written', async (t) => {
  const docs = await readFile(new URL('../../../../docs/csv-format.md', import.meta.url), 'utf8')
  const [section = ''] = docs.split("## csv-stringify's own cases").slice(1).join('').split('\n## ')
  const json = (value: unknown) => `\`${JSON.stringify(value)}\``
  const listed = section.split('\n').filter((line) => line.startsWith('| `'))
  for (const { rows, options, theirs, ours } of differing) {
    const cells = [json(rows), json(options), json(theirs), ours.startsWith('row') ? ours : json(ours)]
    t.ok(
      listed.some((line) => cells.every((cell) => line.includes(`| ${cell} `))),
      cells.join(' ')
    )
    const settings = { header: false, ...options, eof: false }
    t.equal(stringify(rows, settings as object), theirs)
    for (const encoder of ['auto', 'csv-stringify'] as const) {
      const result = () => encode(rows, { ...settings, encoder })
      if (ours.startsWith('row')) t.throws(result, { message: ours })
      else t.equal(result(), ours)
    }
  }
  t.equal(listed.length, differing.length)
})
