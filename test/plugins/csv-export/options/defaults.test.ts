import { once } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import Fastify from 'fastify'
import t from 'tap'
import { RecordStringifier } from '../../../../plugins/csv-export/csv/record-stringifier.ts'
import csvExport, { type PluginOptions, type Receipt, toCsv } from '../../../../plugins/csv-export/index.ts'
import {
  csvOptions,
  pluginOptions,
  streamTextOptions,
  toCsvOptions
} from '../../../../plugins/csv-export/options/options.ts'
import { gate } from '../../../helper.ts'

const all = { ...csvOptions, ...toCsvOptions, ...streamTextOptions, ...pluginOptions }

const row = { a: 'x', text: 'a"b;c', empty: '', cr: 'd\re', formula: '=1', number: 1 }

/** Chunks of a file, or why there is none. */
async function chunks(options: object): Promise<string[]> {
  async function* rows() {
    yield row
    yield row
    await turn()
    await turn()
    yield row
  }
  const found: string[] = []
  try {
    for await (const chunk of toCsv<any>(rows(), options)) found.push(chunk.toString())
  } catch (error) {
    found.push((error as { code: string }).code)
  }
  return found
}

const file = async (options: object) => (await chunks(options)).join('')

/** Rows that csv-stringify writes. */
async function stringified(options: object): Promise<number> {
  let count = 0
  const { stringify } = RecordStringifier.prototype
  RecordStringifier.prototype.stringify = function (cells, isHeader) {
    count++
    return stringify.call(this, cells, isHeader)
  }
  await file(options)
  RecordStringifier.prototype.stringify = stringify
  return count
}

/** A reply's head, and its receipt without what differs each time. */
const reply = (path: string) => async (options: PluginOptions) => {
  const app = Fastify()
  let receipt: Receipt | undefined
  await app.register(csvExport, {
    ...(path === '/csv' ? options : {}),
    onReceipt: (given) => (receipt = given)
  })
  app.get('/csv', (_request, reply) => reply.csv(Array(500).fill(row)))
  app.get('/text', (_request, reply) => reply.streamText(['text'], path === '/text' ? options : {}))
  const { headers } = await app.inject({ url: path, headers: { 'accept-encoding': 'gzip' } })
  await app.close()
  const names = ['content-type', 'content-disposition', 'content-encoding']
  return [...names.map((name) => headers[name]), receipt?.report, receipt?.sha256]
}

/** Milliseconds that timers of a reply, and of the server's end while it runs, are set to. */
async function timers(options: PluginOptions): Promise<Set<number>> {
  const app = Fastify()
  const found = new Set<number>()
  const { setTimeout: original } = globalThis
  const { promise: goOn, resolve } = Promise.withResolvers<void>()
  await app.register(csvExport, options)
  app.get('/', (_request, reply) => {
    return reply.csv(async function* () {
      await turn()
      yield row
      await goOn
    })
  })
  globalThis.setTimeout = Object.assign((callback: () => void, delay = 0) => {
    // The grace is what is left of it.
    found.add(Math.round(delay / 100) * 100)
    return original(callback, delay)
  }, original) as typeof setTimeout
  const response = await app.inject({ url: '/', payloadAsStream: true })
  await once(response.stream(), 'data')
  const closed = app.close()
  await turn()
  resolve()
  globalThis.setTimeout = original
  await closed
  return found
}

/** Status codes of two exports at a time, of one key. */
async function statuses(options: PluginOptions): Promise<number[]> {
  const app = Fastify()
  const { opened, open } = gate()
  let calls = 0
  await app.register(csvExport, { concurrencyKey: () => 'key', ...options })
  app.get('/', (_request, reply) => {
    if (++calls === 2) open()
    return reply.csv(async function* () {
      await opened
      yield row
    })
  })
  const replies = await Promise.all([app.inject('/'), app.inject('/')])
  await app.close()
  return replies.map(({ statusCode }) => statusCode)
}

/** The status code of the path that a probe has by itself. */
async function probed(options: PluginOptions): Promise<number> {
  const app = Fastify()
  await app.register(csvExport, options)
  const { statusCode } = await app.inject('/csv-export-probe?rows=1')
  await app.close()
  return statusCode
}

type Observe = (options: object) => Promise<unknown>

/** For each option that has a default: what shows it, and another value, which shows another thing. */
const observed: Record<string, [observe: Observe, other: unknown]> = {
  filename: [reply('/csv'), 'other.csv'],
  compress: [reply('/csv'), false],
  digest: [reply('/csv'), true],
  type: [reply('/text'), 'text/html'],
  commitAfter: [timers, 77_000],
  sourceTimeout: [timers, 77_000],
  stallTimeout: [timers, 77_000],
  maxDuration: [timers, 77_000],
  closeGrace: [timers, 7_000],
  maxConcurrent: [statuses, 1],
  maxConcurrentPerKey: [statuses, 1],
  probe: [probed, true],
  chunkSize: [chunks, 0],
  flush: [chunks, false],
  maxRows: [file, 1],
  maxBytes: [file, 1],
  batches: [file, true],
  encoded: [file, true],
  header: [file, false],
  headerAsComment: [file, true],
  bom: [file, true],
  delimiter: [file, ';'],
  recordDelimiter: [file, 'windows'],
  quoteRecordDelimiter: [file, false],
  eof: [file, false],
  quote: [file, "'"],
  quoted: [file, true],
  quotedString: [file, true],
  formulas: [file, 'escape'],
  excel: [file, true],
  encoder: [stringified, 'csv-stringify']
}

t.test('what is left out is as its default says', async (t) => {
  for (const [name, { default: value }] of Object.entries(all)) {
    // Of its own for each export: below.
    if (value === undefined || name === 'genExportId') continue
    const [observe, other] = observed[name] ?? []
    if (observe === undefined) t.fail(`nothing shows the default of ${name}`)
    else {
      const found = await observe({})
      t.strictSame(found, await observe({ [name]: value }), `${name} is ${JSON.stringify(value)}`)
      t.notSame(found, await observe({ [name]: other }), `another ${name} would be seen`)
    }
  }
})

t.test('what is left out and has no such default is as the docs say', async (t) => {
  const app = Fastify()
  const receipts: Receipt[] = []
  await app.register(csvExport, { onReceipt: (receipt) => receipts.push(receipt) })
  app.get('/:id/a.csv', (_request, reply) => reply.csv([row]))
  const { headers } = await app.inject('/1/a.csv')
  await app.close()
  t.match(headers['export-id'], /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/, 'genExportId')
  t.match(receipts, [{ id: headers['export-id'], report: '/:id/a.csv' }], 'report')
  t.match(await file({}), new RegExp(`^${Object.keys(row)}\n`), 'columns')
  t.equal(await file({ quote: '|' }), await file({ quote: '|', escape: '|' }), 'escape')
})
