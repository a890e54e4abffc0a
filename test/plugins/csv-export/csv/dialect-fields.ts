import type { CsvOptions } from '../../../../plugins/csv-export/options/options.ts'

/** Rows, options and the text that csv-stringify makes of them. */
export type Case = [rows: readonly object[], options: CsvOptions, text: string]

const booleans = { boolean: (value: boolean) => (value ? '1' : '') }
const nothings = [undefined, null, '', ' ', 0, false]
const gaps = [
  ['20322051544', '', '8.8017226E7', '45', ''],
  ['', '1974', '8.8392926E7', '', '']
]
const quotes = [
  ['20322051544', '"', '8.8017226E7', 45, '"ok"'],
  ['', '1974', '8.8392926E7', '', '']
]
const empties = [['a', null, undefined, '', 'b']]

const records = [
  ['20322051544', '8.8017226E7', 'ABC'],
  ['28392898392', '8.8392926E7', 'DEF']
]

/** What csv-stringify's tests say of fields and of what stands between them. */
export const fieldCases: Record<string, Case[]> = {
  quote: [
    [quotes, { quote: '' }, '20322051544,",8.8017226E7,45,"ok"\n,1974,8.8392926E7,,'],
    [
      [
        ['a', '', 'b'],
        ['', 'c', '']
      ],
      { quote: '|', quoted: true },
      '|a|,,|b|\n,|c|,'
    ],
    [
      [
        ['20322051544', '1979.0', '8.8017226E7', 'ABC,45', '2000-01-01'],
        ['28392898392', '1974.0', '8.8392926E7', 'DEF', '23', '2050-11-27']
      ],
      {},
      '20322051544,1979.0,8.8017226E7,"ABC,45",2000-01-01\n28392898392,1974.0,8.8392926E7,DEF,23,2050-11-27'
    ],
    [
      [
        ['1', ',2,3'],
        ['4', '5', '6'],
        ['7,8', '9', '10,11,']
      ],
      {},
      '1,",2,3"\n4,5,6\n"7,8",9,"10,11,"'
    ],
    [
      [
        ['1', '8.801"7226E7', 'ABC'],
        ['2', '8', '2"3']
      ],
      {},
      '1,"8.801""7226E7",ABC\n2,8,"2""3"'
    ],
    [gaps, {}, '20322051544,,8.8017226E7,45,\n,1974,8.8392926E7,,'],
    [quotes, {}, '20322051544,"""",8.8017226E7,45,"""ok"""\n,1974,8.8392926E7,,'],
    [
      [
        ['1', '\n', ',2', 45, '\nok\n'],
        ['\n', '1974', '3', '', '\n']
      ],
      {},
      '1,"\n",",2",45,"\nok\n"\n"\n",1974,3,,"\n"'
    ],
    [
      [
        ['123\n456', 789],
        ['', '1974']
      ],
      { recordDelimiter: '__', quoteRecordDelimiter: false },
      '123\n456,789__,1974'
    ],
    [[['a|b']], { quote: '|', escape: '\\' }, '|a\\|b|']
  ],
  escape: [
    [
      [
        ['-', '1"2'],
        ['-', '"'],
        ['-', '"abc'],
        ['-', 'def"']
      ],
      {},
      '-,"1""2"\n-,""""\n-,"""abc"\n-,"def"""'
    ],
    [[['a', 'b,c', 'd']], {}, 'a,"b,c",d'],
    [[['a', 'b\nc', 'd']], { recordDelimiter: '\n' }, 'a,"b\nc",d'],
    [[['a|b,c']], { escape: '|' }, '"a||b,c"'],
    [[['a.b,c']], { escape: '.' }, '"a..b,c"'],
    [[['a*b,c']], { escape: '*' }, '"a**b,c"'],
    [[['a$b,c']], { escape: '$' }, '"a$$b,c"']
  ],
  quoted: [
    [
      [
        ['2', '8.801"7', 'ABC'],
        ['28"39', '8.8', 'DEF']
      ],
      { quoted: true },
      '"2","8.801""7","ABC"\n"28""39","8.8","DEF"'
    ],
    [
      [[10.1]],
      { delimiter: ';', cast: { number: (value) => String(value).replace('.', ',') }, quotedMatch: ',' },
      '"10,1"'
    ],
    [
      [['10.1', '10.2']],
      {
        delimiter: ';',
        cast: {
          string: (value, { index }) =>
            ({ value: value.replace('.', ','), quoted_match: index === 0 ? ',' : null }) as any
        },
        quotedMatch: ','
      },
      '"10,1";10,2'
    ]
  ],
  quotedEmpty: [
    [[nothings], { quotedEmpty: true, cast: booleans }, '"","","", ,0,""'],
    [[nothings], { quotedEmpty: true, quotedString: true, cast: booleans }, '"","",""," ",0,""'],
    [[nothings], { quotedEmpty: false, quotedString: true, cast: booleans }, ',,," ",0,'],
    [[nothings], { quotedEmpty: true, quoted: true, cast: booleans }, '"","",""," ","0",""']
  ],
  quotedString: [
    [[[undefined, null, '', ' ', 'x', 0, false]], { quotedString: true, cast: booleans }, ',,""," ","x",0,'],
    [
      [[undefined, null, '', ' ', 'x', 0, false]],
      { quoted: true, quotedString: true, cast: booleans },
      ',,""," ","x","0",'
    ]
  ],
  quotedMatch: [
    [[['abc', 'def']], { quotedMatch: 'e' }, 'abc,"def"'],
    [[['abcd', 'efg']], { quotedMatch: /^\w{3}$/ }, 'abcd,"efg"'],
    [[['ab', 'cd', 'efg']], { quotedMatch: ['d', /^\w{3}$/] }, 'ab,"cd","efg"'],
    [empties, { quotedMatch: /^$/ }, 'a,,,"",b'],
    [empties, { quoted: false, quotedEmpty: false, quotedString: false, quotedMatch: /^$/ }, 'a,,,"",b'],
    [empties, { quoted: true, quotedMatch: /^$/ }, '"a",,,"","b"'],
    [empties, { quotedString: true, quotedMatch: /^$/ }, '"a",,,"","b"'],
    [empties, { quotedEmpty: true, quotedMatch: /^$/ }, 'a,"","","",b']
  ],
  delimiter: [
    [gaps, { delimiter: '\t' }, '20322051544\t\t8.8017226E7\t45\t\n\t1974\t8.8392926E7\t\t'],
    [
      [
        ['a', 'b'],
        ['c', 'd']
      ],
      { delimiter: ':)(:' },
      'a:)(:b\nc:)(:d'
    ],
    [
      [
        ['a', 'b'],
        ['c', 'd']
      ],
      { delimiter: Buffer.from(';') },
      'a;b\nc;d'
    ],
    [[['a:', 'b']], { delimiter: '::' }, '"a:"::b'],
    [[['a:', 'b']], { delimiter: ':x' }, 'a::xb']
  ],
  recordDelimiter: [
    [records, { recordDelimiter: '::' }, '20322051544,8.8017226E7,ABC::28392898392,8.8392926E7,DEF'],
    [
      records,
      { recordDelimiter: Buffer.from('::') },
      '20322051544,8.8017226E7,ABC::28392898392,8.8392926E7,DEF'
    ],
    [records, { recordDelimiter: 'unix' }, '20322051544,8.8017226E7,ABC\n28392898392,8.8392926E7,DEF'],
    [records, { recordDelimiter: 'mac' }, '20322051544,8.8017226E7,ABC\r28392898392,8.8392926E7,DEF'],
    [records, { recordDelimiter: 'windows' }, '20322051544,8.8017226E7,ABC\r\n28392898392,8.8392926E7,DEF'],
    [records, { recordDelimiter: 'unicode' }, '20322051544,8.8017226E7,ABC\u202828392898392,8.8392926E7,DEF'],
    [
      records,
      { recordDelimiter: 'ascii', delimiter: '\u001f' },
      '20322051544\u001f8.8017226E7\u001fABC\u001e28392898392\u001f8.8392926E7\u001fDEF'
    ],
    [[['x', 'a#']], { recordDelimiter: '##' }, 'x,"a#"']
  ]
}
