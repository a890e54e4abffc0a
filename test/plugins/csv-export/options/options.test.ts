import Fastify from 'fastify'
import t from 'tap'
import csvExport, { type CsvOptions } from '../../../../plugins/csv-export/index.ts'
import { serve } from '../../../helper.ts'

const rows = [
  { text: 'a"b', empty: '', number: -5, nothing: null },
  { text: '=1+1', empty: 'x;y', number: 0.5, nothing: undefined }
]

/** Every option of csv-stringify but escape_formulas, for which `formulas` stands, and the two lines that it makes of the rows (after a header line). */
const effects: Record<string, { options: CsvOptions; body: string }> = {
  bom: { options: { bom: true, header: false }, body: '\ufeff"a""b",,-5,\n=1+1,x;y,0.5,\n' },
  cast: {
    options: { header: false, cast: { number: (value) => `#${value}` } },
    body: '"a""b",,#-5,\n=1+1,x;y,#0.5,\n'
  },
  columns: { options: { columns: ['number'] }, body: 'number\n-5\n0.5\n' },
  delimiter: { options: { header: false, delimiter: ';' }, body: '"a""b";;-5;\n=1+1;"x;y";0.5;\n' },
  eof: { options: { eof: false }, body: 'text,empty,number,nothing\n"a""b",,-5,\n=1+1,x;y,0.5,' },
  escape: { options: { header: false, escape: '\\' }, body: '"a\\"b",,-5,\n=1+1,x;y,0.5,\n' },
  header: { options: { header: false }, body: '"a""b",,-5,\n=1+1,x;y,0.5,\n' },
  headerAsComment: {
    options: { headerAsComment: true, columns: ['number'] },
    body: '# number\n-5\n0.5\n'
  },
  quote: { options: { header: false, quote: "'", delimiter: ';' }, body: "a\"b;;-5;\n=1+1;'x;y';0.5;\n" },
  quoted: { options: { header: false, quoted: true }, body: '"a""b",,"-5",\n"=1+1","x;y","0.5",\n' },
  quotedEmpty: { options: { header: false, quotedEmpty: true }, body: '"a""b","",-5,""\n=1+1,x;y,0.5,""\n' },
  quotedMatch: { options: { header: false, quotedMatch: /^=/ }, body: '"a""b",,-5,\n"=1+1",x;y,0.5,\n' },
  quotedString: {
    options: { header: false, quotedString: true },
    body: '"a""b","",-5,\n"=1+1","x;y",0.5,\n'
  },
  quoteRecordDelimiter: {
    options: { columns: [{ key: 'number', header: 'a\rb' }], quoteRecordDelimiter: false },
    body: 'a\rb\n-5\n0.5\n'
  },
  recordDelimiter: {
    options: { columns: [{ key: 'number', header: 'a\rb' }], recordDelimiter: 'windows' },
    body: '"a\rb"\r\n-5\r\n0.5\r\n'
  }
}

t.test('every option of csv-stringify under its camelCase name', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get<{ Params: { name: string } }>('/:name', (request, reply) =>
      reply.csv<any>(rows, effects[request.params.name]?.options)
    )
  })
  for (const [name, { body }] of Object.entries(effects)) {
    const response = await fetch(`${url}/${name}`)
    t.equal(Buffer.from(await response.arrayBuffer()).toString(), body, name)
  }
})

t.test('values where csv-stringify would surprise', async (t) => {
  const values = {
    yes: true,
    no: false,
    date: new Date(Date.UTC(2026, 0, 31, 23, 59, 59, 7)),
    buffer: Buffer.from('hi?>'),
    bytes: new Uint8Array(Buffer.from('xhi?>x').buffer, 0, 0),
    bigint: 2n ** 70n,
    none: null,
    undef: undefined,
    cr: 'a\rb',
    lf: 'a\nb',
    object: { a: [1] }
  }
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv([values, values], { header: false, recordDelimiter: 'windows' })
    )
  })
  const line =
    'true,false,2026-01-31T23:59:59.007Z,aGk/Pg==,,1180591620717411303424,,,"a\rb","a\nb","{""a"":[1]}"\r\n'
  t.equal(await (await fetch(url)).text(), line + line)
})

const wrong: [unknown, string, RegExp][] = [
  [
    { delimeter: ';' },
    'CSV_EXPORT_UNKNOWN_OPTION',
    /^unknown option "delimeter": did you mean "delimiter"\?$/
  ],
  [{ escapeFormulas: true }, 'CSV_EXPORT_UNKNOWN_OPTION', /did you mean "formulas"\?$/],
  [{ escape_formulas: true }, 'CSV_EXPORT_UNKNOWN_OPTION', /did you mean "formulas"\?$/],
  [{ constructor: 1 }, 'CSV_EXPORT_UNKNOWN_OPTION', /unknown option "constructor"/],
  ['x', 'CSV_EXPORT_INVALID_OPTION', /^option "options" must be an object, got "x"$/],
  [{ filename: 5 }, 'CSV_EXPORT_INVALID_OPTION', /^option "filename" must be a string, got 5$/],
  [
    { chunkSize: -1 },
    'CSV_EXPORT_INVALID_OPTION',
    /^option "chunkSize" must be a whole number, 0 or more, got -1$/
  ],
  [{ chunkSize: 1.5 }, 'CSV_EXPORT_INVALID_OPTION', /got 1\.5$/],
  [
    { columns: 'id' },
    'CSV_EXPORT_INVALID_OPTION',
    /^option "columns" must be a non-empty array of names .* got "id"$/
  ],
  [
    { columns: [] },
    'CSV_EXPORT_INVALID_OPTION',
    /^option "columns" must be a non-empty array of names .* got an array$/
  ],
  [{ columns: [5] }, 'CSV_EXPORT_INVALID_OPTION', /"columns" .* got an array$/],
  [{ columns: [{ name: 'id' }] }, 'CSV_EXPORT_INVALID_OPTION', /"columns"/],
  [{ columns: [{ key: '' }] }, 'CSV_EXPORT_INVALID_OPTION', /"columns"/],
  [{ columns: [{ key: 'id', header: 5 }] }, 'CSV_EXPORT_INVALID_OPTION', /"columns"/],
  [{ header: 'yes' }, 'CSV_EXPORT_INVALID_OPTION', /^option "header" must be true or false, got "yes"$/],
  [{ headerAsComment: 5 }, 'CSV_EXPORT_INVALID_OPTION', /"headerAsComment" .* got 5$/],
  [{ bom: 1 }, 'CSV_EXPORT_INVALID_OPTION', /"bom"/],
  [
    { delimiter: '' },
    'CSV_EXPORT_INVALID_OPTION',
    /"delimiter" must be a string or a Buffer that is not empty, got ""$/
  ],
  [{ recordDelimiter: null }, 'CSV_EXPORT_INVALID_OPTION', /"recordDelimiter" .* got null$/],
  [{ quoteRecordDelimiter: 'no' }, 'CSV_EXPORT_INVALID_OPTION', /"quoteRecordDelimiter"/],
  [{ eof: 0 }, 'CSV_EXPORT_INVALID_OPTION', /"eof"/],
  [{ quote: 5n }, 'CSV_EXPORT_INVALID_OPTION', /"quote" .* got 5n$/],
  [{ escape: 'ab' }, 'CSV_EXPORT_INVALID_OPTION', /"escape" must be .* one character, got "ab"$/],
  [{ quoted: 'all' }, 'CSV_EXPORT_INVALID_OPTION', /"quoted"/],
  [{ quotedEmpty: 1 }, 'CSV_EXPORT_INVALID_OPTION', /"quotedEmpty"/],
  [{ quotedString: 1 }, 'CSV_EXPORT_INVALID_OPTION', /"quotedString"/],
  [{ quotedMatch: [5] }, 'CSV_EXPORT_INVALID_OPTION', /"quotedMatch"/],
  [
    { formulas: true },
    'CSV_EXPORT_INVALID_OPTION',
    /^option "formulas" must be 'keep', 'escape' or 'reject', got true$/
  ],
  [{ formulas: () => {} }, 'CSV_EXPORT_INVALID_OPTION', /"formulas" .* got a function$/],
  [{ encoder: 'fast' }, 'CSV_EXPORT_INVALID_OPTION', /"encoder" must be 'auto' or 'csv-stringify'/],
  [{ excel: { delimiter: ';' } }, 'CSV_EXPORT_INVALID_OPTION', /"excel" must be true or false/],
  [
    { quote: false, endMark: 'END, rows:' },
    'CSV_EXPORT_INVALID_OPTION',
    /^option "endMark" must be without a separator where there is no "quote", got "END, rows:"$/
  ],
  [
    { cast: { int: String } },
    'CSV_EXPORT_INVALID_OPTION',
    /"cast" must be an object of functions named string, number/
  ],
  [{ cast: { date: 'iso' } }, 'CSV_EXPORT_INVALID_OPTION', /"cast"/]
]

t.test('a wrong option fails before a byte is sent and names the fix', async (t) => {
  let released = 0
  const { url } = await serve(t, (app) => {
    app.get<{ Params: { index: number } }>('/:index', (request, reply) => {
      const source = Object.assign([{ id: 1 }], {
        next: () => t.fail('never asked'),
        return: () => released++
      })
      return reply.csv(source, wrong[request.params.index]?.[0] as CsvOptions)
    })
  })
  for (const [index, [options, code, message]] of wrong.entries()) {
    const response = await fetch(`${url}/${index}`)
    t.equal(response.status, 500)
    t.match(
      await response.json(),
      { code, message },
      JSON.stringify(options, (_, value) => String(value))
    )
    t.equal(response.headers.get('content-disposition'), null)
  }
  t.equal(released, wrong.length, 'the rows are let go of')
})

t.test('wrong rows', async (t) => {
  const inputs = [undefined, null, 'a,b', 5, {}, Promise.resolve([]), Symbol('x')]
  const { url } = await serve(t, (app) => {
    app.get<{ Params: { index: number } }>('/:index', (request, reply) =>
      reply.csv(inputs[request.params.index] as any)
    )
  })
  for (const index of inputs.keys()) {
    const response = await fetch(`${url}/${index}`)
    t.equal(response.status, 500)
    t.match(await response.json(), { code: 'CSV_EXPORT_INVALID_ROWS', message: /^rows must be an iterable/ })
  }
})

t.test('wrong defaults fail at registration', async (t) => {
  await t.rejects(
    serve(t, () => {}, { defaults: { bomb: true } as any }),
    {
      code: 'CSV_EXPORT_UNKNOWN_OPTION',
      message: 'unknown option "bomb": did you mean "bom"?'
    }
  )
})

t.test('what could never be limited or told apart is refused', async (t) => {
  await t.rejects(async () => Fastify().register(csvExport, { maxConcurrentPerKey: 1 }), {
    code: 'CSV_EXPORT_INVALID_OPTION',
    message: /concurrencyKey/
  })
  for (const name of ['concurrencyKey', 'genExportId']) {
    const app = Fastify()
    await app.register(csvExport, { [name]: async () => 'a' } as any)
    app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
    const { statusCode, body } = await app.inject('/')
    t.equal(statusCode, 500)
    t.match(body, new RegExp(`${name}.*a function that returns a string, got a Promise`))
  }
})

t.test('an id that no header can hold is refused', async (t) => {
  const app = Fastify()
  await app.register(csvExport, { genExportId: () => 'one\r\ntwo' })
  app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
  const { statusCode, headers, body } = await app.inject('/')
  t.equal(statusCode, 500)
  t.equal(headers['export-id'], undefined)
  t.match(body, /genExportId.*what a header can hold/)
})

t.test('a wrong column does not compile', async (t) => {
  await serve(t, (app) => {
    interface Cargo {
      id: number
      port: { name: string } | null
    }
    const cargoes: Cargo[] = []
    app.get('/', (_request, reply) => {
      reply.csv(cargoes, { columns: ['id', 'port', 'port.name', { key: 'id', header: 'No.' }] })
      // @ts-expect-error: no such key
      reply.csv(cargoes, { columns: ['weight'] })
      // @ts-expect-error: no such key
      reply.csv(cargoes, { columns: [{ key: 'weight' }] })
      // @ts-expect-error: no nested key either
      reply.csv(cargoes, { columns: ['id.name'] })
      // @ts-expect-error: the function's rows count too
      reply.csv(async () => cargoes, { columns: ['weight'] })
      // @ts-expect-error: strings are no rows
      reply.csv(['text'])
      reply.csv([['any', 1]], { columns: ['name', 'of', 'an array'] })
      // @ts-expect-error: no such option
      reply.csv(cargoes, { delimeter: ';' })
    })
  })
  t.pass('the type check is the test')
})

t.test('a message shows the beginning of a long text', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.csv(rows, { formulas: 'x'.repeat(1_000) as 'keep' }))
  })
  t.match(await (await fetch(url)).json(), { message: `got "${'x'.repeat(40)}…"` })
})
