import assert from 'node:assert/strict'
import { createWriteStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import fc from 'fast-check'
import t from 'tap'
import { type CsvOptions, type ToCsvOptions, toCsv } from '../../../../plugins/csv-export/index.ts'
import { temporaryFolder } from '../../../database.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { encoderOf } from '../csv/encoding.ts'
import { anyExport, write } from '../csv/random-exports.ts'

const rows = Array.from({ length: 5000 }, (_, id) => ({ id, name: `Crème "${id}"` }))

async function text(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const all = []
  for await (const chunk of chunks) all.push(chunk)
  return Buffer.concat(all).toString()
}

function whole(rows: readonly object[], options: CsvOptions = {}): string {
  const encoder = encoderOf(options)
  return rows.map((row) => encoder.encode(row)).join('') + encoder.end()
}

t.test('a file is written from rows, and its receipt says so', async (t) => {
  const file = join(await temporaryFolder(t), 'users.csv')
  const chunks = toCsv(rows, { columns: ['name', 'id'], digest: true, report: 'users' })
  await pipeline(chunks, createWriteStream(file))
  t.equal(await readFile(file, 'utf8'), whole(rows, { columns: ['name', 'id'] }))
  t.match(await chunks.receipt, {
    requestId: null,
    report: 'users',
    status: 'complete',
    rows: 5000,
    bytes: (await readFile(file)).length,
    errorCode: null,
    sha256: /^\w{64}$/
  })
})

t.test('its bytes are those of reply.csv() and of the encoder, under any options', async (t) => {
  await fc.assert(
    fc.asyncProperty(anyExport, async (input) => {
      const { columns, rows, settings } = input
      const arrays = rows.map((cells) => [...cells])
      const expected = write({ ...input, arrays: arrays.map(() => true) })
      for (const chunkSize of [1, 65_536]) {
        assert.equal(await text(toCsv(arrays, { columns, ...settings, chunkSize })), expected.toString())
      }
    }),
    { numRuns: 500 }
  )
  const { url } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv(rows, { bom: true })))
  t.equal((await curl(url)).body, await text(toCsv(rows, { bom: true })))
})

t.test('what is ready while nobody reads is kept for the next read', async (t) => {
  const more = gate()
  const read = gate()
  async function* source() {
    yield { id: 0 }
    await more.opened
    for (let id = 1; id <= 1000; id++) yield { id }
    await read.opened
  }
  const chunks = toCsv(source())
  t.equal(String((await chunks.next()).value), 'id\n0\n')
  more.open()
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
  read.open()
  const rest = await text(chunks)
  t.equal(rest.split('\n').length - 1, 1000)
  t.match(await chunks.receipt, { status: 'complete', rows: 1001 })
})

t.test('an error that comes while nobody reads is thrown by the next read', async (t) => {
  const more = gate()
  const chunks = toCsv(
    (async function* () {
      yield { id: 0 }
      await more.opened
      throw new Error('late')
    })()
  )
  await chunks.next()
  more.open()
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
  await t.rejects(chunks.next(), { message: 'late' })
  t.match(await chunks.receipt, { status: 'source_failed', rows: 1, errorCode: 'Error' })
  await t.rejects(chunks.next(), { message: 'late' }, 'and by each after it')

  const silent = toCsv(() => new Promise<never>(() => {}), { sourceTimeout: 10 })
  await t.rejects(silent.next(), { code: 'CSV_EXPORT_SOURCE_STALLED' })
  t.match(await silent.receipt, { status: 'source_stalled', firstByteAfter: null })
})

t.test('limits throw, and end the source', async (t) => {
  for (const [options, code] of [
    [{ maxRows: 10 }, 'CSV_EXPORT_MAX_ROWS'],
    [{ maxBytes: 10 }, 'CSV_EXPORT_MAX_BYTES'],
    [{ maxDuration: 100 }, 'CSV_EXPORT_MAX_DURATION']
  ] as const) {
    const ended = gate()
    async function* source() {
      try {
        for (;;) {
          yield { id: 1 }
          await new Promise(setImmediate)
        }
      } finally {
        ended.open()
      }
    }
    const chunks = toCsv(source(), options)
    await t.rejects(text(chunks), { code })
    t.match(await chunks.receipt, { status: 'limit_reached', errorCode: code })
    await ended.opened
  }
})

t.test('an end that comes while nobody reads has its receipt at once', async (t) => {
  const failing = toCsv(async function* () {
    yield { id: 0 }
    await new Promise(setImmediate)
    throw new Error('late')
  })
  await failing.next()
  t.match(await failing.receipt, { status: 'source_failed', rows: 1, bytes: 5, sentBytes: 5 })
  await t.rejects(failing.next(), { message: 'late' })

  const stalled = toCsv(rows, { chunkSize: 1000, maxDuration: 1_000 })
  const { value } = await stalled.next()
  t.match(await stalled.receipt, { status: 'limit_reached', sentBytes: value?.length })
  await t.rejects(stalled.next(), { code: 'CSV_EXPORT_MAX_DURATION' })
})

t.test('an iterator whose next() gives no result is an error', async (t) => {
  for (const result of [undefined, null, 5]) {
    const iterators = { sync: () => result, async: async () => result } as unknown as Record<
      string,
      () => never
    >
    for (const [kind, next] of Object.entries(iterators)) {
      for (const batches of [false, true]) {
        const source = { [kind === 'sync' ? Symbol.iterator : Symbol.asyncIterator]: () => ({ next }) }
        const chunks = toCsv(source as unknown as Iterable<any>, { batches, maxDuration: 1_000 })
        const message = `an iterator's next() has to give { done, value }, got ${result}`
        await t.rejects(text(chunks), { name: 'TypeError', message }, `${kind}, batches: ${batches}`)
      }
    }
  }
})

t.test('a thenable that gives a batch is no promise otherwise', async (t) => {
  let left = 2
  const next = () => ({
    // biome-ignore lint/suspicious/noThenProperty: it is what is tested
    then(resolve: (step: unknown) => void) {
      resolve(left-- > 0 ? { done: false, value: [{ id: left }] } : { done: true })
    }
  })
  const source = { [Symbol.asyncIterator]: () => ({ next }) } as unknown as AsyncIterable<any>
  t.equal(await text(toCsv(source, { batches: true, maxDuration: 1_000 })), 'id\n1\n0\n')
})

t.test('to stop early ends the source at once, though it never answers', async (t) => {
  const signals: AbortSignal[] = []
  const chunks = toCsv(async function* ({ signal }) {
    signals.push(signal)
    yield { id: 1 }
    await new Promise(() => {})
  })
  for await (const chunk of chunks) {
    t.equal(String(chunk), 'id\n1\n')
    break
  }
  t.match(signals[0]?.reason, { code: 'CSV_EXPORT_ABANDONED' })
  t.match(await chunks.receipt, { status: 'abandoned', rows: 1, errorCode: 'CSV_EXPORT_ABANDONED' })
  t.same(await chunks.next(), { done: true, value: undefined })

  const unread = toCsv(rows)
  await unread.return?.()
  t.match(await unread.receipt, { status: 'abandoned', rows: 0 })
})

t.test('reads that overlap are answered in their order', async (t) => {
  const chunks = toCsv(rows, { chunkSize: 1000 })
  const found = await Promise.all(Array.from({ length: 300 }, () => chunks.next()))
  const joined = Buffer.concat(found.flatMap(({ value }) => (value ? [value] : [])))
  t.equal(joined.toString(), whole(rows))
  t.ok(found.at(-1)?.done)
})

t.test('chunks that are read, or have been, are refused to another reader', async (t) => {
  const used = { code: 'CSV_EXPORT_SOURCE_USED' }
  const chunks = toCsv(rows)
  const whole = text(chunks)
  await t.rejects(text(chunks), used, 'at the same time')
  t.equal((await whole).split('\n').length, rows.length + 2)
  await t.rejects(text(chunks), used, 'after the end')
  const left = toCsv(rows)
  for await (const _chunk of left) break
  await t.rejects(text(left), used, 'when an upload is tried again, say')
  const begun = toCsv(rows)
  const first = String((await begun.next()).value)
  t.equal(first + (await text(begun)), await text(toCsv(rows)), 'the rest is read by the same reader')
})

t.test('chunks are full where a pause does not matter', async (t) => {
  const slow = async function* () {
    for (const row of rows.slice(0, 300)) {
      yield row
      await new Promise(setImmediate)
    }
  }
  const sizes = async (options: ToCsvOptions) => {
    const found = []
    for await (const chunk of toCsv<any>(slow(), { chunkSize: 1000, ...options })) found.push(chunk.length)
    return found
  }
  const full = await sizes({ flush: false })
  t.ok(full.slice(0, -1).every((size) => size >= 1000))
  t.ok((await sizes({})).length > full.length * 2)
})

t.test('a stream of it is an ordinary Readable', async (t) => {
  t.equal(await text(Readable.from(toCsv(rows))), whole(rows))
})

t.test('as a stream it ends the rows at once when what it goes to fails', async (t) => {
  const failures: Record<string, (file: PassThrough, abort: AbortController) => void> = {
    'the disk is full': (file) => file.destroy(new Error('full')),
    'the signal fires': (_file, abort) => abort.abort()
  }
  for (const [name, fail] of Object.entries(failures)) {
    const chunks = toCsv(async function* () {
      yield { id: 1 }
      await new Promise(() => {})
    })
    const file = new PassThrough()
    const abort = new AbortController()
    file.once('data', () => fail(file, abort))
    await t.rejects(pipeline(Readable.from(chunks), file, abort), name)
    t.match(await chunks.receipt, { status: 'abandoned' })
  }
})

t.test('CSV that is there already passes', async (t) => {
  const chunks = toCsv(['a\n1', '\n2\n'], { encoded: true })
  t.equal(await text(chunks), 'a\n1\n2\n')
  t.match(await chunks.receipt, { rows: 2 })
})

t.test('options of HTTP are refused', async (t) => {
  const wrong = { filename: 'x.csv', compress: true, commitAfter: 1, stallTimeout: 1, onReceipt: () => {} }
  for (const [name, value] of Object.entries(wrong)) {
    t.throws(() => toCsv(rows, { [name]: value } as ToCsvOptions), {
      code: 'CSV_EXPORT_INVALID_OPTION',
      message: new RegExp(`^option "${name}" must be left out of toCsv\\(\\), which knows no HTTP`)
    })
  }
  t.throws(() => toCsv(rows, { delimiter: '"' }), { code: 'CSV_EXPORT_INVALID_OPTION' })
  t.throws(() => toCsv(5 as never), { code: 'CSV_EXPORT_INVALID_ROWS' })
})

t.test('nothing comes after the end that a cast of its own has made of it', async (t) => {
  for (const options of [{}, { maxBytes: 1 }]) {
    for (const given of [[{ a: 'x' }, { a: 'y' }], []]) {
      const chunks = toCsv(given, {
        columns: ['a'],
        ...options,
        cast: {
          string: (value) => {
            chunks.return?.()
            return value
          }
        }
      })
      for (const step of [chunks.next(), chunks.next()]) {
        t.strictSame(await step, { done: true, value: undefined })
      }
      t.match(await chunks.receipt, { status: 'abandoned', bytes: 0 })
    }
  }
})

t.test('no more than one item is taken while nobody reads', async (t) => {
  let taken = 0
  async function* source() {
    for (;;) {
      taken++
      yield { id: taken }
      await new Promise(setImmediate)
    }
  }
  const chunks = toCsv(source())
  t.equal(String((await chunks.next()).value), 'id\n1\n')
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate)
  t.equal(taken, 2)
  await chunks.return?.()
})
