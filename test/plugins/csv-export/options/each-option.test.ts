import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspect } from 'node:util'
import t from 'tap'
import {
  checkCsvOptions,
  checkPluginOptions,
  checkStreamTextOptions,
  checkToCsvOptions
} from '../../../../plugins/csv-export/options/check.ts'
import {
  type CsvOptions,
  csvOptions,
  type PluginOptions,
  pluginOptions,
  type StreamTextOptions,
  streamTextOptions,
  type ToCsvOptions,
  toCsvOptions
} from '../../../../plugins/csv-export/options/options.ts'

type AllOptions = CsvOptions & ToCsvOptions & StreamTextOptions & PluginOptions

/** Values that an option takes, and others; one that is missing does not compile. */
type Values = { [Name in keyof AllOptions]-?: [accepted: AllOptions[Name][], refused: unknown[]] }

const buffer = Buffer.from('x')
const func = () => ''
const flag: [boolean[], unknown[]] = [
  [true, false],
  [0, 1, 'true', null, {}]
]
const count: [number[], unknown[]] = [
  [0, 1, Number.MAX_SAFE_INTEGER],
  [-1, 1.5, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY, '1', 1n, null]
]
const milliseconds: [number[], unknown[]] = [
  [0, 1, 0.5, 2 ** 31 - 1],
  [-1, 2 ** 31, Number.NaN, Number.POSITIVE_INFINITY, '1', null]
]
const text: [string[], unknown[]] = [
  ['x', ''],
  [0, null, buffer, ['x'], true]
]
const separator: [(string | Buffer)[], unknown[]] = [
  [',', '::', buffer],
  ['', Buffer.alloc(0), 0, null, true, new Uint8Array(1)]
]
const functions: [(() => string)[], unknown[]] = [[func], ['x', {}, null, true]]

const values: Values = {
  filename: text,
  compress: [
    [true, false, [], ['gzip'], ['zstd', 'br', 'gzip']],
    ['gzip', ['deflate'], ['gzip', 1], new Array(1), null, 1]
  ],
  chunkSize: count,
  maxRows: count,
  maxBytes: count,
  header: flag,
  batches: flag,
  encoded: flag,
  report: text,
  digest: flag,
  onReceipt: functions,
  viewer: functions,
  commitAfter: milliseconds,
  sourceTimeout: milliseconds,
  stallTimeout: milliseconds,
  maxDuration: milliseconds,
  closeGrace: milliseconds,
  endMark: [['#END'], ['', 1, buffer, null]],
  columns: [
    [['a'], [''], ['a', { key: 'b' }, { key: 'c', header: '' }, { key: 'd', header: undefined }]],
    [
      'a',
      [],
      [1],
      [{}],
      [{ key: '' }],
      [{ key: 1 }],
      [{ key: 'a', header: 1 }],
      [{ key: 'a', title: 'A' }],
      new Array(1),
      null
    ]
  ],
  headerAsComment: [
    [true, false, '#', buffer],
    [1, null, {}, ['#']]
  ],
  bom: flag,
  delimiter: separator,
  recordDelimiter: separator,
  quoteRecordDelimiter: flag,
  eof: flag,
  quote: [
    [true, false, '', "'", buffer],
    [1, null, {}, ['"']]
  ],
  escape: [
    ['\\', buffer],
    ['', 'ab', 1, null, true]
  ],
  quoted: flag,
  quotedEmpty: flag,
  quotedString: flag,
  quotedMatch: [
    ['x', /x/, ['x', /x/], [], false],
    [true, 1, [1], new Array(1), null]
  ],
  formulas: [
    ['keep', 'escape', 'reject'],
    ['', 'drop', true, false, null, func]
  ],
  excel: flag,
  encoder: [
    ['auto', 'csv-stringify'],
    ['fast', true, null]
  ],
  cast: [
    [{}, { string: func, date: func }],
    [func, [], { int: func }, { date: 'iso' }, null]
  ],
  flush: flag,
  type: text,
  heartbeat: [
    [
      { every: 1, text: '.' },
      { every: 2 ** 31 - 1, text: ' ' }
    ],
    [{ every: 0, text: '.' }, { every: 1 }, { every: 1, text: '' }, { every: 1, text: '.', max: 1 }, 1, null]
  ],
  receipts: [
    [
      { put: () => {}, get: () => undefined },
      { put: () => {}, get: () => undefined, begin: () => {} }
    ],
    [{ put: () => {}, get: () => undefined, begin: 1 }, { put: () => {} }, { get: () => {} }, func, [], null]
  ],
  receiptLogLevel: [
    ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    ['', 'off', 30, false, null]
  ],
  genExportId: functions,
  maxConcurrent: count,
  concurrencyKey: functions,
  maxConcurrentPerKey: count,
  probe: [
    [true, false, '/probe'],
    ['', 'probe', 1, null, func]
  ]
}

/** What toCsv() has no request to ask for. */
const ofToCsv: Partial<Record<string, [unknown[], unknown[]]>> = {
  viewer: [
    [{ tenant: 1 }, ['a'], 'x', 1, true, null],
    [func, 1n, Symbol('x')]
  ]
}

const helpers = {
  'reply.csv()': { options: csvOptions, check: checkCsvOptions as (options: unknown) => void },
  'toCsv()': { options: toCsvOptions, check: checkToCsvOptions as (options: unknown) => void },
  'reply.streamText()': {
    options: streamTextOptions,
    check: checkStreamTextOptions as (options: unknown) => void
  },
  registration: { options: pluginOptions, check: checkPluginOptions as (options: unknown) => void }
}
const all = { ...csvOptions, ...toCsvOptions, ...streamTextOptions, ...pluginOptions }
const names = Object.keys(all) as (keyof typeof all)[]

/** One that is right only beside others. */
const beside: Record<string, object> = { maxConcurrentPerKey: { concurrencyKey: func } }

for (const [helper, { options, check }] of Object.entries(helpers)) {
  t.test(`${helper}: each option takes its values, and refuses others by its name`, async (t) => {
    for (const name of Object.keys(options) as (keyof typeof all)[]) {
      const [accepted, refused] = (helper === 'toCsv()' && ofToCsv[name]) || values[name]
      for (const value of [...accepted, undefined]) {
        t.doesNotThrow(() => check({ ...beside[name], [name]: value }), `${name}: ${inspect(value)}`)
      }
      for (const value of refused) {
        const error = { code: 'CSV_EXPORT_INVALID_OPTION', message: `option "${name}" must be ` }
        t.throws(() => check({ ...beside[name], [name]: value }), error, `${name}: ${inspect(value)}`)
      }
    }
    for (const name of names.filter((name) => !Object.hasOwn(options, name))) {
      const code = /CSV_EXPORT_(UNKNOWN|INVALID)_OPTION/
      t.throws(() => check({ [name]: values[name][0][0] }), { code }, `${name} is none of its own`)
    }
  })
}

const root = join(import.meta.dirname, '../../../..')

/** What docstrings say the defaults are. */
async function inDocstrings(): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for await (const path of glob('plugins/csv-export/options/*.ts', { cwd: root })) {
    const source = await readFile(join(root, path), 'utf8')
    for (const [, docstring, name] of source.matchAll(/\/\*\*((?:(?!\*\/).)*)\*\/\s+(\w+)\?:/gs)) {
      const [, value] = docstring?.match(/@default +(.*?)\s*(?:\n|@example|$)/) ?? []
      // What is said of an option again, as of `formulas` for encoded rows, needs no default again.
      if (value !== undefined) found.set(name as string, value)
    }
  }
  return found
}

/** What the tables of docs/options.md say they are, and how many rows an option has. */
async function inTables(): Promise<Map<string, string[]>> {
  const page = await readFile(join(root, 'docs/options.md'), 'utf8')
  const rows = [...page.matchAll(/^\| `(\w+)` +\| +(.*?) *\| \S/gm)]
  const cells = rows.map(([, name, cell]) => [name, (cell as string).replace(/\[(.*?)\]\(.*?\)/, '$1')])
  return new Map(
    [...Map.groupBy(cells, ([name]) => name as string)].map(([name, rows]) => [
      name,
      rows.map(([, cell]) => cell as string)
    ])
  )
}

t.test('the table, the docstring and the rule of each option name one default', async (t) => {
  const docstrings = await inDocstrings()
  const tables = await inTables()
  t.same([...tables.keys()].sort(), names.toSorted(), 'the tables have each option, and no other')
  t.same([...docstrings.keys()].sort(), names.toSorted(), 'so have the docstrings')
  for (const name of names) {
    const { default: value } = all[name]
    const docstring = docstrings.get(name)
    if (value === undefined) {
      t.notMatch(docstring, /^(\d|'|true|false)/, `${name} has no such default`)
      t.same(tables.get(name), [docstring], name)
    } else {
      t.same(tables.get(name), [`\`${docstring}\``], name)
      if (typeof value !== 'function') t.equal(docstring, inspect(value), name)
    }
  }
})
