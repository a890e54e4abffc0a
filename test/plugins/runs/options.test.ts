import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspect } from 'node:util'
import Fastify from 'fastify'
import t from 'tap'
import csvExport, { type CsvOptions, type PluginOptions } from '../../../plugins/csv-export/index.ts'
import csvRuns, { defineReport, type ReportOptions, type RunsOptions } from '../../../plugins/runs/index.ts'
import { checkRunsOptions, runsOptions } from '../../../plugins/runs/options.ts'
import { reports, wrong } from './report-types.ts'
import { MemoryFiles, numbers } from './runs.ts'

type Values<Options> = { [Name in keyof Options]-?: [accepted: unknown[], refused: unknown[]] }

const func = () => ''
const flag: [unknown[], unknown[]] = [
  [true, false],
  [0, 'true', null]
]
const count: [unknown[], unknown[]] = [
  [0, 1, Number.MAX_SAFE_INTEGER],
  [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '1', null]
]
const functions: [unknown[], unknown[]] = [[func], ['x', {}, null, true]]

const values: Values<RunsOptions> = {
  connectionString: [['postgres://host/db'], ['', 1, null, new URL('postgres://host')]],
  reports: [
    [[], [numbers], reports],
    [numbers, [numbers, numbers], [{ name: 'x' }], [null], null, 'numbers']
  ],
  owner: [
    [func, 'public'],
    ['private', '', null, {}, 1]
  ],
  concurrency: count,
  routes: flag,
  files: [[new MemoryFiles()], [{}, { create: func, read: func, discard: func }, func, null]],
  prefix: [
    ['', '/api', '/a/b', "/-._~!$&'()+,;=@"],
    ['api', '/', '/api/', '//host', '/a//b', '/:tenant', '/*', '/a b', '/\u00e9', '/%41', '/a?b', 1, null]
  ],
  schema: [
    ['csv_export', '_1', 'a'.repeat(40)],
    ['', 'A', '1a', 'a-b', 'a b', 'a'.repeat(41), 1, null]
  ],
  notify: flag,
  keepFor: count,
  maxBytes: count,
  maxOpenPerOwner: count,
  maxBytesPerOwner: count,
  maxBytesKept: count,
  onFinished: functions
}
const required: RunsOptions = { connectionString: 'postgres://host/db', reports: [], owner: 'public' }

t.test('each option of the registration takes its values, and refuses others by its name', async (t) => {
  for (const [name, [accepted, refused]] of Object.entries(values)) {
    for (const value of accepted) {
      t.doesNotThrow(() => checkRunsOptions({ ...required, [name]: value }), `${name}: ${inspect(value)}`)
    }
    const error = { code: 'CSV_EXPORT_INVALID_OPTION', message: `option "${name}" must be ` }
    for (const value of [...refused, ...(Object.hasOwn(required, name) ? [undefined] : [])]) {
      t.throws(() => checkRunsOptions({ ...required, [name]: value }), error, `${name}: ${inspect(value)}`)
    }
  }
  t.throws(() => checkRunsOptions({ ...required, keepfor: 1 }), {
    code: 'CSV_EXPORT_UNKNOWN_OPTION',
    message: /"keepfor".*did you mean "keepFor"/
  })
  t.throws(() => checkRunsOptions(undefined), { code: 'CSV_EXPORT_INVALID_OPTION' })
  t.doesNotThrow(() => checkRunsOptions({ ...required, logLevel: 'warn' }), 'those of Fastify too')
})

t.test('a wrong option is refused before anything is connected to', async (t) => {
  const register = async (options: object, defaults: PluginOptions = {}, prefix = '') => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(csvExport, defaults)
    await app.register((context) => context.register(csvRuns, { ...required, ...options }), { prefix })
  }
  await t.rejects(register({ prefix: '/runs' }, {}, '/:tenant'), {
    code: 'CSV_EXPORT_INVALID_OPTION',
    message: /"prefix" must be .* without parameters.*"\/:tenant\/runs"/
  })
  await t.rejects(register({}, {}, '//host'), { code: 'CSV_EXPORT_INVALID_OPTION' })
  await t.rejects(register({ concurency: 1 }), { code: 'CSV_EXPORT_UNKNOWN_OPTION' })
  const of = (csv: CsvOptions) => ({ ...numbers, csv })
  await t.rejects(register({ reports: [of({ delimiter: '"' })] }), { code: 'CSV_EXPORT_INVALID_OPTION' })
  await t.rejects(register({ reports: [of({ encoded: true })] }, { formulas: 'escape' }), {
    code: 'CSV_EXPORT_INVALID_OPTION',
    message: /"formulas"/
  })
})

t.test('each option of a report takes its values, and refuses others by its name', async (t) => {
  const given = { name: 'x', version: 1, parameters: {}, rows: () => [] }
  const ofReport: Values<ReportOptions> = {
    name: [
      ['a', 'A-b_1'],
      ['', 'a b', 'a/b', 'é', 1, null, ['a'], undefined]
    ],
    version: [
      [1, 2],
      [0, 1.5, '1', null, undefined]
    ],
    parameters: [[{}], [[], 'x', null, undefined]],
    viewer: [
      [func, undefined],
      ['x', {}, null]
    ],
    rows: [[func], [[], null, undefined]],
    csv: [
      [{}, { bom: true }, undefined],
      [[], null, 'x', { viewer: func }, { report: 'y' }]
    ]
  }
  for (const [name, [accepted, refused]] of Object.entries(ofReport)) {
    for (const value of accepted)
      t.doesNotThrow(() => defineReport({ ...given, [name]: value }), `${name}: ${inspect(value)}`)
    const error = { code: 'CSV_EXPORT_INVALID_OPTION', message: `option "${name}" must be ` }
    for (const value of refused) {
      t.throws(() => defineReport({ ...given, [name]: value }), error, `${name}: ${inspect(value)}`)
    }
  }
  const code = 'CSV_EXPORT_UNKNOWN_OPTION'
  t.throws(() => defineReport({ ...given, versoin: 1 } as never), { code, message: /did you mean "version"/ })
  t.throws(() => defineReport({ ...given, csv: { delimeter: ';' } as never }), { code })
  t.throws(() => defineReport({ ...given, csv: { delimiter: 5 as never } }), {
    code: 'CSV_EXPORT_INVALID_OPTION'
  })
})

t.test('what the compiler refuses in a report is refused by its name, too', async (t) => {
  for (const define of wrong) t.throws(define, { code: 'CSV_EXPORT_INVALID_OPTION' })
  for (const { name, rows } of reports) {
    const [row] = [
      ...(rows({
        parameters: { year: 7 },
        viewer: { tenant: 't', all: 1, trim: () => 't' },
        signal: AbortSignal.abort()
      }) as Iterable<any>)
    ]
    t.match(String(row.year), '7', name)
  }
})

t.test('the docstring and the rule of each option name one default', async (t) => {
  const source = await readFile(join(import.meta.dirname, '../../../plugins/runs/options.ts'), 'utf8')
  const docstrings = new Map<string, string | undefined>()
  for (const [, docstring, name] of source.matchAll(/\/\*\*((?:(?!\*\/).)*)\*\/\s+(\w+)\?:/gs)) {
    docstrings.set(name as string, docstring?.match(/@default +(\S+)/)?.[1])
  }
  for (const [name, { default: value }] of Object.entries(runsOptions)) {
    if (Object.hasOwn(required, name)) continue
    if (value === undefined) t.match(docstrings.get(name), /^(none|a)$/, name)
    else t.equal(docstrings.get(name), inspect(value), name)
  }
})
