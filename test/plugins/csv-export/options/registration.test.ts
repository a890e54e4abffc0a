import autoload from '@fastify/autoload'
import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify'
import t from 'tap'
import csvExport, { type CsvOptions, type PluginOptions } from '../../../../plugins/csv-export/index.ts'
import { settler } from '../../../../plugins/csv-export/options/settings.ts'
import { serve } from '../../../helper.ts'

const csv = 'id;note\n1;a\n'
const ofFastify = { prefix: '/api', logLevel: 'warn', logSerializers: {} } as const

t.test('what Fastify itself takes at registration is no option of the plugin, and no error', async (t) => {
  const { url } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv([{ a: 1, b: 2 }])), {
    defaults: { delimiter: ';', ...ofFastify }
  })
  t.equal(await (await fetch(url)).text(), 'a;b\n1;2\n')
  const { url: inCall } = await serve(t, (app) =>
    app.get('/', (_request, reply) => reply.csv([{ a: 1 }], { prefix: '/api' } as CsvOptions))
  )
  t.match(await (await fetch(inCall)).json(), { code: 'CSV_EXPORT_UNKNOWN_OPTION' }, 'in a call it is one')
})

t.test('a context may register it again, with other options', async (t) => {
  const { url } = await serve(t, async (app) => {
    const handler = (_request: FastifyRequest, reply: FastifyReply) => reply.csv([{ a: 1, b: 2 }])
    app.get('/', handler)
    await app.register(async (below) => {
      await below.register(csvExport, { delimiter: ';' })
      below.get('/below', handler)
    })
  })
  t.equal(await (await fetch(url)).text(), 'a,b\n1,2\n')
  t.equal(await (await fetch(`${url}/below`)).text(), 'a;b\n1;2\n')
})

t.test('@fastify/autoload registers it with what all plugins share', async (t) => {
  const plugin = new URL('../../../../plugins/csv-export/index.ts', import.meta.url)
  const dir = t.testdir({ 'csv-export.mjs': `export { default } from '${plugin}'\n` })
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(autoload, { dir, encapsulate: false, options: ofFastify })
  app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  t.equal(await (await fetch(url)).text(), 'a\n1\n')
})

t.test('an unknown option: a name is suggested only if it is near', async (t) => {
  const suggestions = {
    delimeter: 'delimiter',
    Delimiter: 'delimiter',
    recordDelimeter: 'recordDelimiter',
    record_delimiter: 'recordDelimiter',
    RECORD_DELIMITER: 'recordDelimiter',
    bomb: 'bom',
    BOM: 'bom',
    escape_formulas: 'formulas',
    escapeFormulas: 'formulas',
    colums: 'columns',
    column: 'columns',
    columnNames: 'columns',
    cloumns: 'columns',
    heder: 'header',
    headers: 'header',
    qoute: 'quote',
    quoteChar: 'quote',
    quoted_string: 'quotedString',
    fileName: 'filename',
    file_name: 'filename',
    compression: 'compress',
    maxRow: 'maxRows',
    maxConcurent: 'maxConcurrent',
    stallTimout: 'stallTimeout',
    concurencyKey: 'concurrencyKey'
  }
  for (const [name, suggestion] of Object.entries(suggestions)) {
    await t.rejects(
      async () => Fastify().register(csvExport, { [name]: true }),
      { message: `unknown option "${name}": did you mean "${suggestion}"?` },
      name
    )
  }
  for (const name of [
    'foo',
    'separator',
    'x',
    '_',
    '',
    '__proto__x',
    'constructor',
    'newline',
    'transform'
  ]) {
    await t.rejects(
      async () => Fastify().register(csvExport, { [name]: true }),
      { code: 'CSV_EXPORT_UNKNOWN_OPTION', message: /^unknown option "\w*"$/ },
      name
    )
  }
})

t.test('what says of what kind rows are is no default', async (t) => {
  for (const name of ['encoded', 'batches']) {
    for (const value of [true, false]) {
      await t.rejects(async () => Fastify().register(csvExport, { [name]: value } as PluginOptions), {
        code: 'CSV_EXPORT_INVALID_OPTION',
        message: `option "${name}" must be given to reply.csv(), not at registration, got ${value}`
      })
    }
    await Fastify().register(csvExport, { [name]: undefined } as PluginOptions)
  }
})

t.test('encoded rows: registered options of text do not apply, but a guard is not dropped', async (t) => {
  const ask = async (defaults: PluginOptions, options: object = {}) => {
    const { app, url } = await serve(
      t,
      (app) => app.get('/', (_request, reply) => reply.csv([csv], { encoded: true, ...options })),
      { defaults }
    )
    const text = await (await fetch(url)).text()
    await app.close()
    return text
  }
  const without: PluginOptions[] = [
    { delimiter: ';' },
    { endMark: '#END' },
    { columns: ['a'], bom: true, quoted: true, cast: { string: String }, encoder: 'csv-stringify' },
    { quote: false, recordDelimiter: 'windows', headerAsComment: true },
    { formulas: 'keep' },
    { excel: false },
    { excel: true, formulas: 'keep' }
  ]
  for (const defaults of without) t.equal(await ask(defaults), csv, Object.keys(defaults).join())
  const guards: PluginOptions[] = [{ formulas: 'escape' }, { formulas: 'reject' }, { excel: true }]
  for (const defaults of guards) {
    t.match(JSON.parse(await ask(defaults)), {
      code: 'CSV_EXPORT_INVALID_OPTION',
      message: /^option "formulas" must be 'keep' with "encoded: true", .*, got "(escape|reject)"$/
    })
    t.equal(await ask(defaults, { formulas: 'keep' }), csv, 'the call says so itself')
  }
  for (const options of [
    { formulas: 'escape' },
    { formulas: 'reject' },
    { excel: true },
    { excel: false, formulas: 'keep' },
    { batches: false },
    { quote: '"' },
    { endMark: 'x' },
    { encoder: 'auto' }
  ]) {
    t.match(JSON.parse(await ask({}, options)), {
      code: 'CSV_EXPORT_INVALID_OPTION',
      message: `option "${Object.keys(options)[0]}" must be `
    })
  }
  t.equal(await ask({}, { formulas: undefined, delimiter: undefined, batches: undefined }), csv)
})

t.test('settings are made of defaults and options alone, and change neither', async (t) => {
  const frozen = <T extends object>(options: T): T => Object.freeze(options)
  const cases: [defaults: CsvOptions, options: CsvOptions, settings: CsvOptions][] = [
    [{ delimiter: ';' }, { delimiter: undefined }, { delimiter: ';' }],
    [{ delimiter: ';' }, { delimiter: ',' }, { delimiter: ',' }],
    [{}, { excel: true }, { excel: true, bom: true, recordDelimiter: '\r\n', formulas: 'escape' }],
    [
      { excel: true },
      { bom: false, formulas: undefined },
      { excel: true, bom: false, recordDelimiter: '\r\n', formulas: 'escape' }
    ],
    [{ excel: true }, { excel: false }, { excel: false }],
    [
      { excel: true, formulas: 'reject' },
      {},
      { excel: true, bom: true, recordDelimiter: '\r\n', formulas: 'reject' }
    ],
    [
      { formulas: 'reject' },
      { excel: true },
      { excel: true, bom: true, recordDelimiter: '\r\n', formulas: 'escape' }
    ]
  ]
  for (const [defaults, options, settings] of cases) {
    t.strictSame(settler({}, frozen(defaults))(frozen(options)), settings)
  }
})

t.test('an option left undefined is an option not given, to the compiler too', async (t) => {
  const { url } = await serve(
    t,
    (app) => {
      app.get('/', (_request, reply) =>
        reply.csv([{ id: 1 }], {
          filename: undefined,
          columns: undefined,
          delimiter: undefined,
          cast: undefined,
          formulas: undefined,
          batches: undefined,
          maxRows: undefined,
          onReceipt: undefined
        })
      )
      app.get('/header', (_request, reply) =>
        reply.csv([{ id: 1 }], { columns: [{ key: 'id', header: undefined }] })
      )
      app.get('/encoded', (_request, reply) =>
        reply.csv([csv], { encoded: true, header: undefined, formulas: undefined, filename: undefined })
      )
      app.get('/text', (_request, reply) =>
        reply.streamText([csv], { type: undefined, heartbeat: undefined, digest: undefined })
      )
    },
    {
      defaults: {
        receipts: undefined,
        genExportId: undefined,
        maxConcurrent: undefined,
        concurrencyKey: undefined,
        maxConcurrentPerKey: undefined,
        closeGrace: 0,
        excel: undefined
      }
    }
  )
  for (const path of ['/', '/header']) t.equal(await (await fetch(url + path)).text(), 'id\n1\n')
  for (const path of ['/encoded', '/text']) t.equal(await (await fetch(url + path)).text(), csv)
})

t.test('a key may be undefined: that export is not counted', async (t) => {
  const { url } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv([{ id: 1 }])), {
    defaults: {
      maxConcurrentPerKey: 1,
      concurrencyKey: ({ headers }): string | undefined => headers['x-user']?.toString()
    }
  })
  t.equal((await fetch(url)).status, 200)
  t.equal((await fetch(url, { headers: { 'x-user': 'ann' } })).status, 200)
})

t.test('what encoded rows cannot have does not compile', async (t) => {
  await serve(t, (app) => {
    app.get('/', (_request, reply) => {
      reply.csv([csv], { encoded: true, formulas: 'keep', header: false, filename: 'a.csv', maxRows: 5 })
      // @ts-expect-error: nobody looks for formulas in them
      reply.csv([csv], { encoded: true, formulas: 'escape' })
      // @ts-expect-error: their text is made already
      reply.csv([csv], { encoded: true, endMark: 'x' })
      // @ts-expect-error: so it is
      reply.csv([csv], { encoded: true, excel: true })
      // @ts-expect-error: and so it is
      reply.csv([csv], { encoded: true, delimiter: ';' })
    })
    // @ts-expect-error: each call says of what kind its rows are
    const defaults: PluginOptions = { encoded: true }
    // @ts-expect-error: the same
    const others: PluginOptions = { batches: true }
    return [defaults, others]
  })
  t.pass('the type check is the test')
})
