import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable, Transform, type TransformOptions } from 'node:stream'
import { mock } from 'node:test'
import compress from '@fastify/compress'
import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import t from 'tap'
import { MemoryReceipts, type Receipt } from '../../../plugins/csv-export/index.ts'
import { defineReport } from '../../../plugins/runs/index.ts'
import { Sweep } from '../../../plugins/runs/sweep.ts'
import { Runs } from '../../../plugins/runs/table/runs.ts'
import { curl, gate, Log } from '../../helper.ts'
import { openPool } from '../pg/pools.ts'
import {
  ask,
  curlReply,
  finishedRun,
  MemoryFiles,
  newSchema,
  numbers,
  post,
  serveRuns,
  startEmptyPostgres
} from './runs.ts'

const connectionString = await startEmptyPostgres(t)
/** Gives less than it takes. */
const upperCase: TransformOptions['transform'] = (chunk, _encoding, callback) =>
  callback(null, String(chunk).toUpperCase().slice(0, 13))
const empty = defineReport({
  name: 'empty',
  version: 1,
  parameters: { type: 'object', additionalProperties: false, properties: {} },
  rows: () => [],
  csv: { filename: 'é.csv' }
})

t.test('a kept file is sent whole, or the part of it that is asked for', async (t) => {
  const receipts = new MemoryReceipts()
  const { url } = await serveRuns(t, {
    connectionString,
    reports: [numbers, empty],
    defaults: { receipts, digest: true }
  })
  const run = await finishedRun(url, 'numbers', { json: { count: 30_000 } })
  const { href, bytes, sha256, rows } = run.result as NonNullable<typeof run.result>
  const file = `${url}${href}`
  const etag = `"${sha256}"`
  const expected = Buffer.from((await ask(`${url}/reports/numbers.csv?count=30000`)).body)
  const common = {
    etag,
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-transform',
    'repr-digest': `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`,
    'content-disposition': 'attachment; filename=numbers.csv',
    'content-type': 'text/csv; charset=utf-8; header=present',
    'x-content-type-options': 'nosniff'
  }
  const checkHead = (headers: Headers, more: Record<string, string | null>) => {
    for (const [name, value] of Object.entries({ ...common, ...more }))
      t.equal(headers.get(name), value, name)
  }

  const whole = await curlReply('-H', 'accept-encoding: gzip, br, zstd, identity;q=0', file)
  t.equal(whole.status, 200)
  t.ok(whole.body.equals(expected))
  const plain = { 'content-encoding': null, 'transfer-encoding': null, trailer: null, vary: null }
  checkHead(whole.headers, { ...plain, 'content-length': String(bytes) })
  t.match(await receipts.get(whole.headers.get('export-id') as string), {
    report: 'numbers',
    status: 'complete',
    rows,
    bytes,
    sentBytes: bytes,
    contentCoding: null
  })

  const part = (range: string, ...more: string[]) => curlReply('-H', `range: ${range}`, ...more, file)
  const last = bytes - 1
  for (const [range, from, to] of [
    ['bytes=0-0', 0, 0],
    ['bytes=0-99', 0, 99],
    [`bytes=${last}-${last}`, last, last],
    ['bytes=-100', bytes - 100, last],
    [`bytes=-${bytes * 2}`, 0, last],
    ['bytes=70000-', 70_000, last],
    ['Bytes=70000-99999999999999999999999', 70_000, last],
    [`bytes= ${last}- ,`, last, last],
    ['bytes=5-9,99999999-', 5, 9]
  ] as const) {
    const { status, headers, body } = await part(range)
    t.equal(status, 206, range)
    checkHead(headers, {
      'content-range': `bytes ${from}-${to}/${bytes}`,
      'content-length': String(to - from + 1),
      ...plain
    })
    t.ok(body.equals(expected.subarray(from, to + 1)), range)
    const receipt = (await receipts.get(headers.get('export-id') as string)) as Receipt
    t.match(receipt, { status: 'complete', bytes: to - from + 1, rows: to - from === last ? rows : 0 })
  }
  for (const range of ['bytes=0-1,5-6', 'bytes=x-', 'bytes=9-5', 'bytes', 'rows=0-1', 'bytes=,']) {
    const { status, headers, body } = await part(range)
    t.match([status, body.length, headers.get('content-range')], [200, bytes, null], range)
  }
  for (const range of [`bytes=${bytes}-`, 'bytes=-0', 'bytes=99999999-,999999999-']) {
    const { status, headers, body } = await part(range)
    t.equal(status, 416, range)
    t.equal(headers.get('content-range'), `bytes */${bytes}`)
    t.match(JSON.parse(body.toString()), { code: 'CSV_EXPORT_RANGE_NOT_SATISFIABLE' })
    for (const name of ['etag', 'repr-digest', 'content-disposition']) t.equal(headers.get(name), null, name)
  }

  for (const [header, status] of [
    [`if-range: ${etag}`, 206],
    [`if-range: W/${etag}`, 200],
    ['if-range: "other"', 200],
    ['if-range: Fri, 27 Nov 2026 14:00:00 GMT', 200],
    ['if-none-match: "other"', 206],
    ['if-none-match: "other, *, others"', 206],
    [`if-none-match: "other", W/${etag}`, 304],
    ['if-none-match: *', 304]
  ] as const) {
    const answer = await part('bytes=0-9', '-H', header)
    t.equal(answer.status, status, header)
    t.equal(answer.body.length, { 200: bytes, 206: 10, 304: 0 }[status], header)
    t.equal(answer.headers.get('etag'), etag)
  }

  for (const args of [[], ['-H', 'range: bytes=5-9']]) {
    const head = await curlReply('--head', ...args, file)
    t.equal(head.status, 200, 'a range is for GET alone')
    checkHead(head.headers, { ...plain, 'content-length': String(bytes), 'content-range': null })
    t.equal(head.headers.get('export-id'), null)
  }
  const unchanged = await curlReply('--head', '-H', `if-none-match: ${etag}`, file)
  t.equal(unchanged.status, 304)
  t.equal(unchanged.headers.get('content-length'), null, 'a cache would take it for the length of the file')

  const none = await finishedRun(url, 'empty')
  t.match(none.result, { bytes: 0, rows: 0 })
  for (const [range, status] of [
    ['bytes=0-', 416],
    ['bytes=-5', 200],
    ['', 200]
  ] as const) {
    const answer = await curlReply('-H', `range: ${range}`, `${url}${none.result?.href}`)
    t.equal(answer.status, status, range)
    t.equal(answer.code, 0)
    if (status === 200) t.equal(answer.headers.get('content-length'), '0')
  }
})

t.test('beside @fastify/compress a kept file stays as it is', async (t) => {
  const before = (app: FastifyInstance) => app.register(compress, { threshold: 0 })
  const { url } = await serveRuns(t, { connectionString, before, server: { exposeHeadRoutes: false } })
  const { result } = await finishedRun(url, 'numbers', { json: { count: 30_000 } })
  for (const [args, status, length] of [
    [[], 200, result?.bytes],
    [['-r', '5-9999'], 206, 9_995],
    [['--head'], 200, 0]
  ] as const) {
    const reply = await curlReply('-H', 'accept-encoding: gzip, br', ...args, `${url}${result?.href}`)
    t.match([reply.code, reply.status, reply.body.length], [0, status, length])
    t.equal(reply.headers.get('content-encoding'), null)
    if (status === 200) t.equal(reply.headers.get('content-length'), String(result?.bytes))
  }
})

t.test('what a hook makes of a kept file has a length of its own', async (t) => {
  const before = (app: FastifyInstance) =>
    app.addHook('onSend', async (_request, _reply, payload) =>
      payload instanceof Readable ? payload.pipe(new Transform({ transform: upperCase })) : payload
    )
  const { url } = await serveRuns(t, { connectionString, before })
  const { result } = await finishedRun(url, 'numbers')
  const { code, body, headers } = await curlReply(`${url}${result?.href}`)
  t.equal(code, 0)
  t.equal(body.toString(), 'ID,LABEL\n1,X\n')
  t.equal(headers.get('content-length'), null)
})

t.test('curl resumes where it was cut', async (t) => {
  const { url } = await serveRuns(t, { connectionString })
  const run = await finishedRun(url, 'numbers', { json: { count: 50_000 } })
  const folder = await mkdtemp(join(tmpdir(), 'csv-export-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const path = join(folder, 'numbers.csv')
  const expected = Buffer.from((await ask(`${url}/reports/numbers.csv?count=50000`)).body)
  await writeFile(path, expected.subarray(0, 77_777))
  t.equal((await curl('-f', '-L', '-C', '-', '-o', path, `${url}/runs/${run.id}/result`)).code, 0)
  t.ok((await readFile(path)).equals(expected))
})

t.test('a store that gives other bytes than there are breaks the download visibly', async (t) => {
  class WrongFiles extends MemoryFiles {
    size = 0
    override async *read(id: string, from: number, to: number) {
      yield Buffer.alloc(Math.min(this.size, 65_536), 'x')
      if (this.size > 65_536) yield Buffer.alloc(this.size - 65_536, 'x')
      if (this.size === 0) yield* super.read(`not ${id}`, from, to)
    }
  }
  const files = new WrongFiles()
  const { url, log } = await serveRuns(t, { connectionString, files })
  const { result } = await finishedRun(url, 'numbers', { json: { count: 30_000 } })
  const bytes = result?.bytes as number
  for (const [size, args] of [
    [bytes - 1, []],
    [bytes + 1, []],
    [99_999, ['-r', '0-99999']],
    [100_001, ['-r', '0-99999']],
    [100_000, ['-0', '-r', '5-']]
  ] as const) {
    files.size = size
    t.match(await curl('-f', ...args, `${url}${result?.href}`), { code: /^(18|56)$/ }, `${size} bytes`)
  }
  t.match(await log.find(/^export source_failed$/), { err: { code: 'CSV_EXPORT_FILE_INCOMPLETE' } })
  files.size = 0
  const before = await curlReply('-r', '5-9', `${url}${result?.href}`)
  t.equal(before.status, 500, 'before the first byte it is an error reply')
  for (const name of ['etag', 'repr-digest', 'content-range', 'content-disposition']) {
    t.equal(before.headers.get(name), null, name)
  }
})

t.test('the head of a download does not wait for a slow store', async (t) => {
  const asked = gate()
  class WaitingFiles extends MemoryFiles {
    override async *read(id: string, from: number, to: number) {
      await asked.opened
      yield* super.read(id, from, to)
    }
  }
  const { url } = await serveRuns(t, {
    connectionString,
    files: new WaitingFiles(),
    defaults: { commitAfter: 1 }
  })
  const { result } = await finishedRun(url, 'numbers')
  const response = await fetch(`${url}${result?.href}`)
  t.equal(response.headers.get('content-length'), String(result?.bytes))
  asked.open()
  t.equal((await response.text()).length, result?.bytes)
})

t.test('a file of another attempt is no part of this one', async (t) => {
  const { url } = await serveRuns(t, { connectionString, reports: [numbers], concurrency: 0 })
  const { id } = (await post(url, 'numbers')).body
  const other = `${url}/runs/${id}/files/00000000-0000-4000-8000-000000000000`
  t.match(await ask(other), { status: 503, body: { code: 'CSV_EXPORT_RUN_OPEN' } })
  t.equal((await ask(other)).headers.get('retry-after'), '1')
  const made = await serveRuns(t, { connectionString })
  const run = await finishedRun(made.url, 'numbers')
  t.match(await ask(`${made.url}/runs/${run.id}/files/00000000-0000-4000-8000-000000000000`), {
    status: 410,
    body: { code: 'CSV_EXPORT_RUN_EXPIRED' }
  })
  t.equal(
    (await ask(`${made.url}${run.result?.href.toUpperCase().replace(/^.*RUNS(.*)FILES/, '/runs$1files')}`))
      .status,
    200
  )
})

t.test('a file is there for as long as it is kept, and for who reads it then', async (t) => {
  const schema = newSchema()
  const more = gate()
  const reading = gate()
  class SlowFiles extends MemoryFiles {
    isSlow = false
    override async *read(id: string, from: number, to: number) {
      for await (const chunk of super.read(id, from, to)) {
        yield chunk
        reading.open()
        if (this.isSlow) await more.opened
      }
    }
  }
  const files = new SlowFiles()
  // Before there is any: one of the queue's that is cleared meanwhile would go on for good, and keep this process.
  mock.timers.enable({ apis: ['setInterval'] })
  const { url, log } = await serveRuns(t, {
    connectionString,
    schema,
    files,
    keepFor: 60_000,
    maxBytesKept: 1_000_000
  })
  t.teardown(() => mock.timers.reset())
  const pool = openPool(t, connectionString, { max: 10 })
  const sweep = new Sweep({
    runs: new Runs(pool, schema),
    files,
    interval: 10_000,
    closeGrace: 5_000,
    forgetAfter: 3_600_000,
    log: new Log() as never
  })
  const run = await finishedRun(url, 'numbers', {
    json: { count: 30_000 },
    headers: { 'idempotency-key': 'k' }
  })
  const file = `${url}${run.result?.href}`
  await sweep.sweep()
  t.equal(files.kept.size, 1)

  files.isSlow = true
  const slow = curlReply(file)
  await reading.opened
  await pool.query(`UPDATE ${schema}.runs SET read_until = NULL`)
  mock.timers.tick(60_000)
  const kept = `SELECT read_until > now() + interval '9 minutes' AS kept FROM ${schema}.runs`
  while (!(await pool.query(kept)).rows[0].kept) await new Promise(setImmediate)
  await pool.query(`ALTER TABLE ${schema}.runs RENAME TO away`)
  mock.timers.tick(60_000)
  t.match(await log.find(/^a file that is read may not be kept$/), { level: 40, err: { code: '42P01' } })
  await pool.query(`ALTER TABLE ${schema}.away RENAME TO runs`)
  await pool.query(`UPDATE ${schema}.runs SET expires_at = now()`)
  for (const path of [file, `${url}/runs/${run.id}/result`]) {
    t.match(await ask(path), { status: 410, body: { code: 'CSV_EXPORT_RUN_EXPIRED' } }, 'before any sweep')
  }
  t.match((await ask(`${url}/runs/${run.id}`)).body, {
    state: 'expired',
    result: null,
    progress: { rows: 30_000 }
  })
  t.match((await ask(`${url}/runs`)).body, [{ state: 'expired' }])
  await sweep.sweep()
  t.equal(files.kept.size, 1, 'a sweep cuts no download')
  more.open()
  t.match(await slow, { code: 0, status: 200 })

  await pool.query(`UPDATE ${schema}.runs SET read_until = now() - interval '1 second'`)
  await sweep.sweep()
  t.equal(files.kept.size, 0)
  t.match((await ask(file)).body, { code: 'CSV_EXPORT_RUN_EXPIRED' })
  const again = await post(url, 'numbers', { json: { count: 30_000 }, headers: { 'idempotency-key': 'k' } })
  t.match(again, { status: 202, body: { id: run.id, state: 'expired' } })

  await files.create('00000000-0000-4000-8000-000000000000').then((writer) => writer.seal())
  await pool.query(`UPDATE ${schema}.runs SET finished_at = now() - interval '2 hours'`)
  await sweep.sweep()
  t.equal(files.kept.size, 0, 'nor are there files of no run')
  t.equal((await ask(`${url}/runs/${run.id}`)).status, 404)
})

t.test('a file that is swept between question and answer is gone, not broken', async (t) => {
  const schema = newSchema()
  const database = new pg.Client({ connectionString })
  await database.connect()
  t.teardown(() => database.end())
  const { url } = await serveRuns(t, {
    connectionString,
    schema,
    before: (app) =>
      app.addHook('onSend', async (request, _reply, payload) => {
        // The answer is decided, its first byte not read.
        if (request.headers.swept) await database.query(`UPDATE ${schema}.runs SET file_id = NULL`)
        return payload
      })
  })
  const { result } = await finishedRun(url, 'numbers')
  const answer = await ask(`${url}${result?.href}`, { headers: { swept: 'now' } })
  t.match(answer, { status: 410, body: { code: 'CSV_EXPORT_RUN_EXPIRED' } })
})
