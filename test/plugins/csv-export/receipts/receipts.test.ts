import { createHash, randomUUID } from 'node:crypto'
import diagnostics from 'node:diagnostics_channel'
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { connect } from 'node:http2'
import { Readable, Transform } from 'node:stream'
import { createGzip } from 'node:zlib'
import type { FastifyRequest } from 'fastify'
import t from 'tap'
import {
  type ExportStart,
  MemoryReceipts,
  type Receipt,
  toCsv
} from '../../../../plugins/csv-export/index.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { skipBefore } from '../../../programs.ts'

const withoutTrailers = skipBefore('5.12.8', 'trailers of a stream')
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const rows = [{ a: 1 }, { a: 'ä' }]
const csv = 'a\n1\nä\n'
const sha256 = createHash('sha256').update(csv).digest('hex')

async function* failing() {
  yield { a: 1 }
  await new Promise(setImmediate)
  await new Promise(setImmediate)
  throw Object.assign(new Error('down'), { code: 'DATABASE_DOWN' })
}

/** A server whose receipts can be awaited, in the order of the ends. */
async function serveWithReceipts(
  t: Parameters<typeof serve>[0],
  ...rest: Parameters<typeof serve> extends [any, ...infer R] ? R : never
) {
  const receipts: Receipt[] = []
  const waiting: ((receipt: Receipt) => void)[] = []
  const [routes, options = {}] = rest
  const server = await serve(t, routes, {
    ...options,
    defaults: {
      onReceipt: (receipt) => {
        const take = waiting.shift()
        if (take) take(receipt)
        else receipts.push(receipt)
      },
      ...options.defaults
    }
  })
  const next = (): Promise<Receipt> => {
    const receipt = receipts.shift()
    return receipt ? Promise.resolve(receipt) : new Promise((resolve) => waiting.push(resolve))
  }
  return { ...server, next }
}

t.test('a whole export has a receipt, everywhere', async (t) => {
  const store = new MemoryReceipts()
  const told: unknown[] = []
  const channels = ['start', 'progress', 'end'].map((name) => `fastify-csv-export:${name}`)
  const listen = (message: unknown, name: string | symbol) =>
    void told.push([String(name).split(':')[1], message])
  for (const name of channels) diagnostics.subscribe(name, listen)
  t.teardown(() => channels.map((name) => diagnostics.unsubscribe(name, listen)))
  const { url, log, next } = await serveWithReceipts(
    t,
    (app) => app.get('/reports/:kind', (_request, reply) => reply.csv(rows, { digest: true })),
    { defaults: { receipts: store } }
  )
  const response = await fetch(`${url}/reports/all`)
  t.equal(await response.text(), csv)
  const receipt = await next()
  const id = response.headers.get('export-id') as string
  t.match(id, uuid)
  t.match(receipt, {
    id,
    requestId: 'req-1',
    report: '/reports/:kind',
    status: 'complete',
    rows: 2,
    bytes: Buffer.byteLength(csv),
    errorCode: null,
    sha256
  })
  t.ok(Math.abs(Date.parse(receipt.startedAt) - Date.now()) < 60_000)
  t.ok((receipt.firstByteAfter as number) <= receipt.duration)
  t.same(store.get(id), receipt)
  const line = await log.find(/^export complete$/)
  t.equal(line.level, 30)
  t.same(line.export, receipt)
  t.equal(log.lines.filter((line) => line.export).length, 1, 'one line')
  t.match(told, [
    ['start', { id, report: '/reports/:kind', startedAt: receipt.startedAt, rows: 0, bytes: 0 }],
    ['progress', { id, startedAt: receipt.startedAt, rows: 2, bytes: receipt.bytes }],
    ['end', receipt]
  ])
})

t.test("a name, an id and a request of one's own", async (t) => {
  const { url, next } = await serveWithReceipts(
    t,
    (app) => app.get('/', (_request, reply) => reply.csv(rows, { report: 'all of them' })),
    { defaults: { genExportId: (request) => `export-of-${request.query ? 'somebody' : ''}` } }
  )
  const { headers } = await fetch(url)
  t.equal(headers.get('export-id'), 'export-of-somebody')
  t.match(await next(), { id: 'export-of-somebody', report: 'all of them', sha256: null })
})

t.test('a receipt for its owner alone, whose name is in its id', async (t) => {
  const receipts = new MemoryReceipts()
  const userOf = ({ headers }: FastifyRequest) => String(headers.user)
  const { url, next } = await serveWithReceipts(
    t,
    (app) => {
      app.get('/', (_request, reply) => reply.csv(rows))
      app.get<{ Params: { id: string } }>('/exports/:id', async (request, reply) => {
        const { id } = request.params
        const owner = id.slice(0, id.lastIndexOf('.'))
        return (owner === userOf(request) && receipts.get(id)) || reply.code(404).send()
      })
    },
    { defaults: { receipts, genExportId: (request) => `${userOf(request)}.${randomUUID()}` } }
  )
  const get = (path: string, user: string) => fetch(url + path, { headers: { user } })
  const id = (await get('/', 'ann.lee')).headers.get('export-id')
  t.match(await next(), { id })
  t.match(await (await get(`/exports/${id}`, 'ann.lee')).json(), { id, status: 'complete' })
  for (const other of ['ann', 'bob']) t.equal((await get(`/exports/${id}`, other)).status, 404)
})

t.test('an export that no route has made is told by its URL', async (t) => {
  const { url, next } = await serveWithReceipts(t, (app) =>
    app.setNotFoundHandler((_request, reply) => reply.csv(rows))
  )
  await (await fetch(`${url}/nowhere?a=1`)).text()
  t.match(await next(), { report: '/nowhere?a=1' })
})

t.test('an error without a code, or with one that cannot be read, is on record', async (t) => {
  let reads = 0
  // It can be read when the error is looked at, and has changed when a receipt is made of it.
  const changing = { get: () => (reads++ < 2 ? 'GONE' : Object.create(null)) }
  const errors: [code: string, error: Error][] = [
    ['RangeError', new RangeError('x')],
    ['Error', Object.assign(new Error('x'), { name: undefined })],
    ['Error', Object.defineProperty(new RangeError('x'), 'code', changing)]
  ]
  for (const [code, error] of errors) {
    const chunks = toCsv(() => Promise.reject(error))
    await t.rejects(Readable.from(chunks).toArray(), error)
    t.match(await chunks.receipt, { status: 'source_failed', errorCode: code })
  }
})

t.test('a source that fails', async (t) => {
  const { url, log, next } = await serveWithReceipts(t, (app) => {
    app.get('/late', (_request, reply) => reply.csv(failing()))
    app.get('/early', (_request, reply) =>
      reply.csv(() => {
        throw new RangeError('none')
      })
    )
    app.get('/text', (_request, reply) => reply.streamText(['a', 5 as unknown as string]))
  })
  t.equal((await curl(`${url}/late`)).code, 56)
  t.match(await next(), { status: 'source_failed', errorCode: 'DATABASE_DOWN', rows: 1, bytes: 4 })
  t.match(await log.find(/source_failed/), { level: 50, err: { message: 'down' } })
  const early = await fetch(`${url}/early`)
  t.equal(early.status, 500)
  t.match(await next(), {
    id: early.headers.get('export-id'),
    status: 'source_failed',
    errorCode: 'RangeError',
    rows: 0,
    bytes: 0,
    firstByteAfter: null
  })
  await curl(`${url}/text`)
  t.match(await next(), { status: 'source_failed', errorCode: 'CSV_EXPORT_INVALID_CHUNK', report: '/text' })
})

t.test('no body, no receipt, no id', async (t) => {
  let receipts = 0
  const { url, app } = await serve(
    t,
    (app) => {
      app.addHook('onSend', async (request, reply, payload) => {
        if (request.url === '/304') reply.code(304)
        return payload
      })
      app.get('/304', (_request, reply) => reply.csv(rows))
      app.get('/', (_request, reply) => reply.csv(rows))
    },
    { defaults: { onReceipt: () => receipts++ } }
  )
  t.equal((await fetch(url, { method: 'HEAD' })).headers.get('export-id'), null)
  const notModified = await fetch(`${url}/304`)
  t.equal(notModified.status, 304)
  t.equal(notModified.headers.get('export-id'), null)
  await app.close()
  t.equal(receipts, 0)
})

t.test('a store is told of each export that begins, if it wants to know', async (t) => {
  const told: unknown[] = []
  const begun = gate<void>()
  const receipts = {
    // One that never settles keeps no export waiting.
    begin: (start: ExportStart) => {
      told.push(start)
      return begun.opened
    },
    put: (receipt: Receipt) => void told.push(receipt),
    get: () => undefined
  }
  const { url, app } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv(rows)), {
    defaults: { receipts }
  })
  await fetch(url, { method: 'HEAD' })
  const response = await fetch(url)
  t.equal(await response.text(), csv)
  await app.close()
  const [start, receipt, ...others] = told as [ExportStart, Receipt]
  t.strictSame(start, { id: response.headers.get('export-id'), report: '/', startedAt: receipt.startedAt })
  t.match(receipt, { id: start.id, status: 'complete' })
  t.strictSame(others, [])
})

t.test('what a store throws when an export begins is logged and breaks nothing', async (t) => {
  const failures = [
    () => Promise.reject(new Error('store down')),
    () => {
      throw new Error('store down')
    }
  ]
  for (const begin of failures) {
    const { url, log } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv(rows)), {
      defaults: { receipts: { begin, put: () => {}, get: () => undefined } }
    })
    const response = await fetch(url)
    t.equal(await response.text(), csv)
    const id = response.headers.get('export-id')
    t.match(await log.find(/the receipt store failed/), { err: { message: 'store down' }, export: { id } })
  }
})

t.test('what a store or a listener throws is logged and breaks nothing', async (t) => {
  const { url, log } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv(rows)), {
    defaults: {
      receipts: { put: () => Promise.reject(new Error('store down')), get: () => undefined },
      onReceipt: () => {
        throw new Error('listener broken')
      }
    }
  })
  t.equal(await (await fetch(url)).text(), csv)
  t.match(await log.find(/the receipt store failed/), { err: { message: 'store down' } })
  t.match(await log.find(/onReceipt failed/), { err: { message: 'listener broken' } })
})

t.test('a client that leaves after the last row was written, before it has taken it', async (t) => {
  for (const http2 of [false, true]) {
    const large = 'x'.repeat(20_000_000)
    const sourceEnded = gate()
    const { url, next } = await serveWithReceipts(
      t,
      (app) =>
        app.get('/', (_request, reply) =>
          reply.csv(
            (function* () {
              yield [large]
              sourceEnded.open()
            })(),
            { header: false }
          )
        ),
      { http2 }
    )
    if (http2) {
      const session = connect(url)
      const stream = session.request({ ':path': '/' })
      await once(stream, 'response')
      stream.close(8)
      t.match(await next(), { status: 'client_gone', errorCode: 'CSV_EXPORT_CLIENT_GONE' }, 'HTTP/2')
      session.close()
    } else {
      const response = await new Promise<IncomingMessage>((resolve) => get(url, { agent: false }, resolve))
      response.on('error', () => {})
      response.pause()
      response.destroy()
      t.match(await next(), { status: 'client_gone', errorCode: 'CSV_EXPORT_CLIENT_GONE' }, 'HTTP/1.1')
    }
  }
})

t.test('trailers for those who ask', { skip: withoutTrailers }, async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.csv(rows))
    app.get('/own', (_request, reply) => {
      reply.trailer('x-own', (_reply, _payload, done) => done(null, 'yes'))
      return reply.csv(rows)
    })
    app.get(
      '/coded',
      {
        onSend: async (_request, reply, payload: any) => {
          reply.header('content-encoding', 'gzip')
          return payload.pipe(createGzip())
        }
      },
      (_request, reply) => reply.csv(rows)
    )
    app.get('/failing', (_request, reply) => reply.csv(failing()))
    app.get('/early', (_request, reply) =>
      reply.csv(async () => {
        throw new Error('early')
      })
    )
  })
  const read = (path: string, options = {}) =>
    new Promise<IncomingMessage & { text: string }>((resolve, reject) => {
      get(url + path, { agent: false, headers: { te: 'trailers' }, ...options }, async (response) => {
        let text = ''
        try {
          for await (const chunk of response) text += chunk
          resolve(Object.assign(response, { text }))
        } catch (error) {
          reject(error)
        }
      })
        .on('error', reject)
        .end()
    })
  const digest = `sha-256=:${createHash('sha256').update(csv).digest('base64')}:`
  const whole = await read('/')
  t.equal(whole.text, csv)
  t.equal(whole.headers.trailer, 'export-rows, repr-digest')
  t.same(whole.trailers, { 'export-rows': '2', 'repr-digest': digest })
  t.same((await read('/', { headers: {} })).trailers, {}, 'not asked for')
  t.same((await read('/own')).trailers, { 'x-own': 'yes', 'export-rows': '2', 'repr-digest': digest })
  t.same((await read('/coded')).trailers, { 'export-rows': '2' }, 'no digest of another representation')
  await t.rejects(read('/failing'))
  const early = await read('/early')
  t.equal(early.statusCode, 500)
  t.match(early.text, /early/)
  t.notOk(early.headers.trailer)
  t.equal((await read('/', { method: 'HEAD' })).statusCode, 200)
  const old = await curl('--http1.0', '--raw', '-i', '-H', 'TE: trailers, chunked', url)
  t.equal(old.code, 0)
  t.notMatch(old.body, /transfer-encoding|trailer/i)
  t.ok(old.body.endsWith(`\r\n\r\n${csv}`), 'HTTP/1.0 gets no chunks')
})

t.test('trailers on HTTP/2', { skip: withoutTrailers }, async (t) => {
  const { url } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv(rows)), { http2: true })
  const session = connect(url)
  const stream = session.request({ ':path': '/', te: 'trailers' })
  const [trailers] = await Promise.all([once(stream, 'trailers'), stream.resume()])
  t.match(trailers[0], { 'export-rows': '2', 'repr-digest': /^sha-256=:/ })
  session.close()
})

t.test('an end mark', async (t) => {
  const { url } = await serve(t, (app) => {
    const endMark = 'END, of export:'
    app.get('/objects', (_request, reply) =>
      reply.csv(
        [
          { a: 1, b: 2 },
          { a: 3, b: 4 }
        ],
        { endMark }
      )
    )
    app.get('/arrays', (_request, reply) => reply.csv([[1, 2, 3]], { endMark, header: false }))
    app.get('/none', (_request, reply) => reply.csv([], { endMark }))
    app.get('/empty', (_request, reply) => reply.csv([], { endMark, columns: ['a', 'b'], bom: true }))
    app.get('/failing', (_request, reply) => reply.csv(failing(), { endMark }))
  })
  const body = async (path: string) => (await curl(url + path)).body
  t.equal(await body('/objects'), 'a,b\n1,2\n3,4\n"END, of export: 2",\n')
  t.equal(await body('/arrays'), '1,2,3\n"END, of export: 1",,\n')
  t.equal(await body('/none'), '"END, of export: 0"\n')
  t.equal(await body('/empty'), '\ufeffa,b\n"END, of export: 0",\n')
  t.equal(await body('/failing'), 'a\n1\n')
})

t.test('the memory store is bounded by number and age', async (t) => {
  const receipt = (id: string) => ({ id }) as Receipt
  const store = new MemoryReceipts({ max: 2 })
  for (const id of ['a', 'b', 'c']) store.put(receipt(id))
  t.same(
    ['a', 'b', 'c'].map((id) => store.get(id)?.id),
    [undefined, 'b', 'c']
  )
  const short = new MemoryReceipts({ maxAge: 0 })
  short.put(receipt('a'))
  t.equal(short.get('a'), undefined)
})

t.test('a memory store that would keep nothing, or not what was meant, is refused', (t) => {
  for (const name of ['max', 'maxAge']) {
    for (const value of [Number.NaN, -1, '5', null]) {
      t.throws(() => new MemoryReceipts({ [name]: value as number }), {
        code: 'CSV_EXPORT_INVALID_OPTION',
        message: new RegExp(`^option "${name}" must be a number, 0 or more, got `)
      })
    }
    for (const value of [undefined, 0, 1.5, Number.POSITIVE_INFINITY]) {
      t.ok(new MemoryReceipts({ [name]: value }))
    }
  }
  t.end()
})

t.test('a hook that makes another body of it', async (t) => {
  const { url, next } = await serveWithReceipts(t, (app) =>
    app.get(
      '/',
      {
        onSend: async (_request, _reply, payload: any) =>
          payload.pipe(
            new Transform({ transform: (chunk, _encoding, done) => done(null, String(chunk).toUpperCase()) })
          )
      },
      (_request, reply) => reply.csv(rows, { digest: true })
    )
  )
  t.equal(await (await fetch(url)).text(), csv.toUpperCase())
  t.match(await next(), { status: 'complete', sha256, bytes: Buffer.byteLength(csv) })
})
