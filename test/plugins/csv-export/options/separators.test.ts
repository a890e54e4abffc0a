import assert from 'node:assert/strict'
import { parse } from 'csv-parse/sync'
import fc from 'fast-check'
import Fastify from 'fastify'
import t from 'tap'
import csvExport, { type CsvOptions, type PluginOptions } from '../../../../plugins/csv-export/index.ts'
import {
  checkSeparators,
  type Separators,
  separatorsOf
} from '../../../../plugins/csv-export/options/separators.ts'
import { serve } from '../../../helper.ts'
import { encoderOf, withDefaults } from '../csv/encoding.ts'

const half = '\ud83d'

/** The option that is named, and options that are refused for it. */
const refused: [name: keyof CsvOptions, options: CsvOptions][] = [
  // A quote of more than one character.
  ['quote', { quote: "''" }],
  ['quote', { quote: Buffer.from('ab') }],
  ['quote', { quote: '"\n' }],
  // One in another.
  ['delimiter', { delimiter: '"' }],
  ['delimiter', { delimiter: 'a"b' }],
  ['delimiter', { delimiter: Buffer.from('"') }],
  ['recordDelimiter', { recordDelimiter: ',' }],
  ['recordDelimiter', { recordDelimiter: '"' }],
  ['recordDelimiter', { recordDelimiter: ',\n' }],
  ['recordDelimiter', { recordDelimiter: '-,-' }],
  ['quote', { quote: ',' }],
  ['escape', { escape: ',' }],
  ['recordDelimiter', { escape: '#', recordDelimiter: '##' }],
  ['delimiter', { delimiter: '\u001e', recordDelimiter: 'ascii' }],
  ['delimiter', { delimiter: '\u2028', recordDelimiter: 'unicode' }],
  ['delimiter', { delimiter: "'", quote: "'" }],
  ['delimiter', { delimiter: '\\', escape: '\\' }],
  ['delimiter', { delimiter: '::', recordDelimiter: ':' }],
  ['delimiter', { delimiter: ';', recordDelimiter: ';' }],
  ['delimiter', { delimiter: ';', recordDelimiter: ';', quote: false }],
  // The end of one is the beginning of another.
  ['delimiter', { delimiter: ',_', recordDelimiter: '_|_' }],
  ['delimiter', { delimiter: '_|_', recordDelimiter: ',_' }],
  ['delimiter', { delimiter: 'ab', recordDelimiter: 'bc' }],
  ['delimiter', { delimiter: ':=', recordDelimiter: '::' }],
  // A line break where none may be.
  ['delimiter', { delimiter: '\n' }],
  ['delimiter', { delimiter: ';\r', recordDelimiter: 'unix' }],
  ['delimiter', { delimiter: '\n', recordDelimiter: '|', quote: false }],
  ['quote', { quote: '\n' }],
  ['quote', { quote: '\r', recordDelimiter: 'unix' }],
  ['escape', { escape: '\r', recordDelimiter: '|' }],
  // Half a character.
  ['delimiter', { delimiter: half }],
  ['delimiter', { delimiter: `;${half}` }],
  ['delimiter', { delimiter: Buffer.from([0xe8]) }],
  ['delimiter', { delimiter: half, quote: '' }],
  ['recordDelimiter', { recordDelimiter: '\ude00' }],
  ['quote', { quote: half }],
  ['quote', { quote: '😀' }],
  ['quote', { quote: Buffer.from([0xff]) }],
  ['escape', { escape: half }],
  ['escape', { escape: Buffer.from([0x80]) }],
  // Nothing to quote with.
  ['quoted', { quote: false, quoted: true }],
  ['quoted', { quote: '', quoted: true }],
  ['quotedString', { quote: Buffer.alloc(0), quotedString: true }],
  ['quotedEmpty', { quote: false, quotedEmpty: true }],
  ['quotedMatch', { quote: false, quotedMatch: /a/ }],
  ['quotedMatch', { quote: false, quotedMatch: '' }],
  ['quotedMatch', { quote: false, quotedMatch: ['a'] }],
  ['endMark', { quote: false, endMark: 'the end, after' }],
  ['endMark', { quote: false, endMark: 'the\nend' }],
  // A comment of more than one line.
  ['headerAsComment', { headerAsComment: '#\n' }],
  ['headerAsComment', { headerAsComment: 'a\rb' }],
  ['headerAsComment', { headerAsComment: Buffer.from('#\n#') }],
  ['headerAsComment', { headerAsComment: true, recordDelimiter: '#' }],
  ['headerAsComment', { headerAsComment: 'a--b', recordDelimiter: '--' }],
  // A comment that begins with a separator, in each record then.
  ['headerAsComment', { headerAsComment: ',' }],
  ['headerAsComment', { headerAsComment: '"' }],
  ['headerAsComment', { headerAsComment: true, delimiter: '#' }],
  ['headerAsComment', { headerAsComment: '# of all rows', delimiter: ';#' }],
  ['headerAsComment', { headerAsComment: '#', quote: '#' }],
  ['headerAsComment', { headerAsComment: true, recordDelimiter: '-#-' }],
  ['headerAsComment', { headerAsComment: '\\', escape: '\\' }],
  // A byte order mark, which readers drop where a file begins with it.
  ['delimiter', { delimiter: '\ufeff' }],
  ['quote', { quote: '\ufeff' }],
  ['recordDelimiter', { recordDelimiter: '-\ufeff' }],
  ['escape', { escape: '\ufeff' }]
]

const accepted: CsvOptions[] = [
  {},
  { excel: true, delimiter: ';' },
  { delimiter: ':)(:' },
  { delimiter: '::' },
  { delimiter: ':x' },
  { delimiter: '😀', recordDelimiter: '😎' },
  { delimiter: Buffer.from('é') },
  { delimiter: '\0' },
  { recordDelimiter: '##' },
  { recordDelimiter: '__' },
  { recordDelimiter: '--' },
  { recordDelimiter: '\n\n' },
  ...['unix', 'mac', 'windows', 'ascii', 'unicode'].map((recordDelimiter) => ({ recordDelimiter })),
  { quote: '|', escape: '\\' },
  { quote: "'" },
  { quote: "'", escape: '"' },
  { escape: '\\' },
  { quote: true },
  { quote: false, delimiter: '"' },
  { quote: false, delimiter: '\\', escape: '\\' },
  { quote: '', quoted: false, quotedString: false, quotedEmpty: false, quotedMatch: false },
  { headerAsComment: '# the columns: ' },
  { headerAsComment: '# id, name, "more"' },
  { headerAsComment: true, quote: false, delimiter: '"' },
  { headerAsComment: true, header: false, delimiter: '#' },
  { headerAsComment: true, recordDelimiter: 'windows' },
  { headerAsComment: false, recordDelimiter: 'false' }
]

// tap takes U+2028 for the end of a line.
const text = (options: CsvOptions) => JSON.stringify(options).replaceAll('\u2028', 'U+2028')

t.test('separators that cannot be read back are refused at the call and at registration', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get<{ Params: { index: number } }>('/:index', (request, reply) =>
      reply.csv<any>([{ a: 1 }], refused[request.params.index]?.[1])
    )
  })
  for (const [index, [name, options]] of refused.entries()) {
    const expected = { code: 'CSV_EXPORT_INVALID_OPTION', message: `option "${name}" must be ` }
    const response = await fetch(`${url}/${index}`)
    t.equal(response.status, 500)
    t.match(await response.json(), expected, text(options))
    await t.rejects(async () => Fastify().register(csvExport, options as PluginOptions), expected)
  }
})

t.test('what can be read back is not', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get<{ Params: { index: number } }>('/:index', (request, reply) =>
      reply.csv<any>([{ a: 1 }], accepted[request.params.index])
    )
  })
  for (const [index, options] of accepted.entries()) {
    t.equal((await fetch(`${url}/${index}`)).status, 200, text(options))
    await Fastify().register(csvExport, options as PluginOptions)
  }
})

t.test('a message says what is wrong with what', async (t) => {
  const messages: [CsvOptions, string][] = [
    [
      { delimiter: '"' },
      'option "delimiter" must be a text that does not contain, begin or end like "quote", "\\"", got "\\""'
    ],
    [{ quote: '\n' }, 'option "quote" must be without a line break, got "\\n"'],
    [
      { quote: false, quoted: true },
      'option "quoted" must be false or left out where there is no "quote", got true'
    ]
  ]
  for (const [options, message] of messages)
    t.throws(() => checkSeparators(withDefaults(options)), { message })
})

t.test('what is registered counts beside what is given', async (t) => {
  const { url } = await serve(
    t,
    (app) => {
      app.get('/quote', (_request, reply) => reply.csv([{ a: 1 }], { quote: "'" }))
      app.get('/none', (_request, reply) => reply.csv([{ a: 1 }], { quote: false }))
      app.get('/excel', (_request, reply) =>
        reply.csv([{ a: 1 }], { excel: true, quote: '`', headerAsComment: '#' })
      )
      app.get('/delimiter', (_request, reply) => reply.csv([{ a: 1 }], { quote: "'", delimiter: ';' }))
      app.get('/encoded', (_request, reply) => reply.csv(['a\n1\n'], { encoded: true }))
    },
    { defaults: { delimiter: "'", quotedString: true } }
  )
  t.match(await (await fetch(`${url}/quote`)).json(), {
    message: /"delimiter" must .* "quote", "'", got "'"$/
  })
  t.match(await (await fetch(`${url}/none`)).json(), { message: /"quotedString" must be false or left out/ })
  for (const path of ['excel', 'delimiter', 'encoded']) t.equal((await fetch(`${url}/${path}`)).status, 200)
})

t.test('separators as the text that is written', async (t) => {
  const cases: [CsvOptions, ...string[]][] = [
    [{}, ',', '"', '"', '\n'],
    [{ quote: true, escape: undefined }, ',', '"', '"', '\n'],
    [{ quote: "'" }, ',', "'", "'", '\n'],
    [{ quote: "'", escape: '"' }, ',', "'", '"', '\n'],
    [{ escape: '\\' }, ',', '"', '\\', '\n'],
    [{ quote: false }, ',', '', '', '\n'],
    [{ quote: '' }, ',', '', '', '\n'],
    [{ delimiter: Buffer.from('é'), quote: Buffer.from('|'), escape: Buffer.from('^') }, 'é', '|', '^', '\n'],
    [{ recordDelimiter: 'windows' }, ',', '"', '"', '\r\n'],
    [{ recordDelimiter: Buffer.from('mac') }, ',', '"', '"', '\r'],
    [{ recordDelimiter: 'ascii' }, ',', '"', '"', '\u001e'],
    [{ recordDelimiter: 'unicode' }, ',', '"', '"', '\u2028'],
    [{ recordDelimiter: Buffer.from('--') }, ',', '"', '"', '--']
  ]
  const names = ['delimiter', 'quote', 'escape', 'recordDelimiter']
  for (const [options, ...texts] of cases) {
    const separators = Object.fromEntries(names.map((name, index) => [name, texts[index]]))
    t.strictSame(separatorsOf(withDefaults(Object.freeze(options))), separators, text(options))
    t.strictSame(separatorsOf(withDefaults(separators)), separators, 'text stays as it is')
  }
})

t.test('whatever is accepted is read back, with fields made of the separators', (t) => {
  const character = fc.constantFrom(...':;,"|-_\r\nx')
  const separator = fc.string({ unit: character, minLength: 1, maxLength: 3 })
  const options = fc.record({ delimiter: separator, recordDelimiter: separator, quote: character })
  const isAccepted = (options: CsvOptions) => {
    try {
      checkSeparators(withDefaults(options))
      return true
    } catch {
      return false
    }
  }
  const tables = options.filter(isAccepted).chain((options) => {
    const separators = separatorsOf(withDefaults(options))
    const unit = fc.constantFrom(...Object.values(separators).join(''), 'a')
    const field = fc.string({ unit, maxLength: 4 })
    return fc.tuple(fc.constant(separators), fc.array(fc.tuple(field, field), { minLength: 1, maxLength: 3 }))
  })
  const check = ([separators, rows]: [Separators, string[][]]) => {
    const encoder = encoderOf({ ...separators, header: false })
    const file = rows.map((row) => encoder.encode(row)).join('') + encoder.end()
    const { delimiter, quote, escape: escapeCharacter, recordDelimiter } = separators
    const dialect = { delimiter, quote, escape: escapeCharacter, record_delimiter: recordDelimiter }
    assert.deepStrictEqual(parse(file, dialect), rows)
  }
  fc.assert(fc.property(tables, check), { numRuns: 1_000 })
  t.end()
})
