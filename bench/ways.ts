import { type Duplex, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { stringQuoteOnlyIfNecessary } from '@json2csv/formatters'
import { Transform } from '@json2csv/node'
import { type Options, stringify } from 'csv-stringify'
import { stringify as stringifyBatch } from 'csv-stringify/sync'
import { type FormatterRow as FastCsvRow, format } from 'fast-csv'
import type { FastifyReply } from 'fastify'
import papaparse from 'papaparse'
import { generate, type Row, type Shape } from './shapes.ts'

/** Sends `count` rows of a shape as the body of a reply. */
export type Way = (reply: FastifyReply, shape: Shape, count: number) => unknown

/** The same output as the plugin's, so that both do the same work. */
export const stringifyOptions: Options = {
  header: true,
  cast: { boolean: String, date: (value) => value.toISOString() }
}

interface Stages {
  transforms?: Duplex[]
  headers?: Record<string, string>
}

function send(
  reply: FastifyReply,
  items: AsyncIterable<unknown> | unknown[],
  stages: Stages = {}
): Promise<void> {
  const { transforms = [], headers } = stages
  reply.hijack()
  reply.raw.writeHead(200, { 'content-type': 'text/csv; charset=utf-8', ...headers })
  return pipeline([Readable.from(items), ...transforms, reply.raw])
}

/** Rows in arrays, whose text is about 32 to 64 KiB. */
async function* batches(shape: Shape, count: number): AsyncGenerator<Row[]> {
  const size = Math.ceil((shape.rows / 250_000) * 400)
  for (let number = 0; number < count; number += size) {
    yield Array.from({ length: Math.min(size, count - number) }, (_, index) => shape.row(number + index))
  }
}

async function* joined(shape: Shape, count: number, text: (rows: Row[], header: boolean) => string) {
  let header = true
  for await (const rows of batches(shape, count)) {
    yield text(rows, header)
    header = false
  }
}

const stringifyText = (rows: Row[], header: boolean) => stringifyBatch(rows, { ...stringifyOptions, header })
const papaText = (rows: Row[], header: boolean) => `${papaparse.unparse(rows, { header, newline: '\n' })}\n`

/** fast-csv has no casts, only a function for the row. */
function datesAsText(row: FastCsvRow): FastCsvRow {
  if ('created' in row) row.created = row.created.toISOString()
  return row
}

const quoteIfNecessary = stringQuoteOnlyIfNecessary()
const formatters = {
  header: quoteIfNecessary,
  string: quoteIfNecessary,
  object: (value: unknown) => (value === null ? '' : (value as Date).toISOString())
}

const ready = new Map<string, Buffer[]>()

/** The same bytes, encoded beforehand: what this server can send at most. */
async function readyBuffers(shape: Shape, count: number): Promise<Buffer[]> {
  const key = `${shape.name} ${count}`
  let buffers = ready.get(key)
  if (buffers === undefined) {
    buffers = []
    for await (const text of joined(shape, count, stringifyText)) buffers.push(Buffer.from(text))
    ready.set(key, buffers)
  }
  return buffers
}

/** Written, so that the floor's rows are not optimized away. */
let lastRow: Row

/** Bytes of a chunk of ours. */
const chunkSize = 65_536

const pieces = new Map<string, Buffer[]>()

/** The ready Buffers, in chunks as large as ours. */
async function readyPieces(shape: Shape, count: number): Promise<Buffer[]> {
  const key = `${shape.name} ${count}`
  let cut = pieces.get(key)
  if (cut === undefined) {
    const bytes = Buffer.concat(await readyBuffers(shape, count))
    cut = Array.from({ length: Math.ceil(bytes.length / chunkSize) }, (_, index) =>
      bytes.subarray(index * chunkSize, (index + 1) * chunkSize)
    )
    pieces.set(key, cut)
  }
  return cut
}

/** Makes each row and is awaited for it, and gives ready bytes for those of a chunk: all that an export does but encode. */
async function* notEncoded(shape: Shape, count: number): AsyncGenerator<Buffer | string> {
  const chunks = await readyPieces(shape, count)
  let given = 0
  for (let number = 0; number < count; number++) {
    lastRow = shape.row(number)
    yield number * chunks.length >= given * count ? (chunks[given++] as Buffer) : ''
  }
  void lastRow
}

async function collect(rows: AsyncIterable<Row>): Promise<Row[]> {
  const collected: Row[] = []
  for await (const row of rows) collected.push(row)
  return collected
}

const inArray = (shape: Shape, count: number): Row[] =>
  Array.from({ length: count }, (_, number) => shape.row(number))

const sendText = (reply: FastifyReply, rows: Row[]): unknown =>
  reply.type('text/csv; charset=utf-8').send(stringifyText(rows, true))

export const ways: Record<string, Way> = {
  'reply.csv': (reply, shape, count) => reply.csv(generate(shape, count)),

  'reply.csv, rows in batches': (reply, shape, count) => reply.csv(batches(shape, count), { batches: true }),

  "reply.csv, formulas: 'escape'": (reply, shape, count) =>
    reply.csv(generate(shape, count), { formulas: 'escape' }),

  'the floor, rows not encoded': (reply, shape, count) => reply.streamText(notEncoded(shape, count)),

  'the usual pipeline': (reply, shape, count) =>
    send(reply, generate(shape, count), { transforms: [stringify(stringifyOptions)] }),

  'csv-stringify, batches joined': (reply, shape, count) => send(reply, joined(shape, count, stringifyText)),

  'fast-csv': (reply, shape, count) =>
    send(reply, generate(shape, count), {
      transforms: [format({ headers: true, includeEndRowDelimiter: true }).transform(datesAsText)]
    }),

  papaparse: (reply, shape, count) => send(reply, joined(shape, count, papaText)),

  '@json2csv/node': (reply, shape, count) =>
    send(reply, generate(shape, count), {
      transforms: [new Transform({ formatters, eol: '\n' }, {}, { objectMode: true })]
    }),

  'ready Buffers': async (reply, shape, count) => send(reply, await readyBuffers(shape, count)),

  'reply.csv, gzip': (reply, shape, count) => reply.csv(generate(shape, count), { compress: ['gzip'] }),

  'the usual pipeline, gzip': (reply, shape, count) =>
    send(reply, generate(shape, count), {
      transforms: [stringify(stringifyOptions), createGzip()],
      headers: { 'content-encoding': 'gzip' }
    }),

  'stringify-sync and send()': async (reply, shape, count) =>
    sendText(reply, await collect(generate(shape, count))),

  'reply.csv, an array': (reply, shape, count) => reply.csv(inArray(shape, count)),

  'the usual pipeline, an array': (reply, shape, count) =>
    send(reply, inArray(shape, count), { transforms: [stringify(stringifyOptions)] }),

  'stringify-sync and send(), an array': (reply, shape, count) => sendText(reply, inArray(shape, count))
}
