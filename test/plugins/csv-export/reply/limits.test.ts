import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import type { Readable } from 'node:stream'
import t from 'tap'
import type { Receipt } from '../../../../plugins/csv-export/index.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { skipBefore } from '../../../programs.ts'

const never = new Promise<never>(() => {})

/** Sends a request and reads only what it is told to. */
async function rawClient(url: string, path = '/'): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  await once(socket, 'connect')
  socket.on('error', () => {})
  socket.write(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`)
  return socket
}

function endless(size = 1_000) {
  const row = ['x'.repeat(size)]
  const released = gate()
  async function* rows() {
    try {
      for (;;) yield row
    } finally {
      released.open()
    }
  }
  return { rows, released: released.opened }
}

function receiptOf() {
  const { opened, open } = gate<Receipt>()
  return { receipt: opened, onReceipt: open }
}

t.test('commitAfter sends the head of the reply while the first row is awaited', async (t) => {
  const first = gate()
  async function* rows() {
    await first.opened
    yield { a: 1, b: 2 }
  }
  const { url } = await serve(t, (app) => {
    const options = { commitAfter: 10, bom: true }
    app.get('/columns', (_request, reply) => reply.csv(rows(), { ...options, columns: ['a', 'b'] }))
    app.get('/discovered', (_request, reply) => reply.csv(rows(), options))
    async function* text() {
      await first.opened
      yield 'text'
    }
    app.get('/text', (_request, reply) => reply.streamText(text(), { commitAfter: 10 }))
    app.get('/encoded', (_request, reply) => reply.csv(text(), { commitAfter: 10, encoded: true }))
  })
  // fetch resolves with the headers.
  const [columns, discovered, text, encoded] = await Promise.all(
    ['/columns', '/discovered', '/text', '/encoded'].map((path) => fetch(url + path))
  )
  const reader = columns?.body?.getReader()
  t.equal(Buffer.from((await reader?.read())?.value as Uint8Array).toString(), '\ufeffa,b\n')
  first.open()
  t.equal(Buffer.from((await reader?.read())?.value as Uint8Array).toString(), '1,2\n', 'no second header')
  t.equal(Buffer.from((await discovered?.arrayBuffer()) as ArrayBuffer).toString(), '\ufeffa,b\n1,2\n')
  t.equal(await text?.text(), 'text')
  t.equal(await encoded?.text(), 'text')
})

t.test('an error before commitAfter is an error reply, one after it a break', async (t) => {
  const committed = gate()
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv(
        async () => {
          await committed.opened
          throw new Error('late')
        },
        { commitAfter: 1, columns: ['a'] }
      )
    )
    app.get('/empty', (_request, reply) =>
      reply.csv(async function* () {}, { commitAfter: 0, columns: ['a'] })
    )
  })
  const response = await fetch(url)
  t.equal(response.status, 200)
  committed.open()
  await t.rejects(response.text())
  t.equal(await (await fetch(`${url}/empty`)).text(), 'a\n')
})

t.test('sourceTimeout', async (t) => {
  for (const [name, source] of Object.entries({
    opening: () => never,
    'first row': async function* () {
      await never
      yield { a: 1 }
    }
  })) {
    const { receipt, onReceipt } = receiptOf()
    const { url } = await serve(t, (app) =>
      app.get('/', (_request, reply) => reply.csv(source, { sourceTimeout: 20, onReceipt }))
    )
    const response = await fetch(url)
    t.equal(response.status, 504, name)
    t.match(await response.json(), { code: 'CSV_EXPORT_SOURCE_STALLED', message: /20 ms/ })
    t.match(await receipt, { status: 'source_stalled', errorCode: 'CSV_EXPORT_SOURCE_STALLED' })
  }
  const { receipt, onReceipt } = receiptOf()
  let aborted: AbortSignal | undefined
  const { url } = await serve(t, (app) =>
    app.get('/', (_request, reply) =>
      reply.csv(
        async function* ({ signal }) {
          aborted = signal
          yield { a: 1 }
          await never
        },
        { sourceTimeout: 20, onReceipt }
      )
    )
  )
  t.match(await curl(url), { code: 56, body: 'a\n1\n' })
  t.match(await receipt, { status: 'source_stalled', rows: 1 })
  t.match(aborted?.reason, { code: 'CSV_EXPORT_SOURCE_STALLED' })
})

t.test('a heartbeat does not put sourceTimeout off', async (t) => {
  for (const [name, source] of Object.entries({
    opening: (): Promise<never> => never,
    'next chunk': async function* (): AsyncGenerator<string> {
      yield 'a'
      await never
    }
  })) {
    const { receipt, onReceipt } = receiptOf()
    const { url } = await serve(t, (app) =>
      app.get('/', (_request, reply) =>
        reply.streamText(source, { sourceTimeout: 500, heartbeat: { every: 20, text: '.' }, onReceipt })
      )
    )
    // The reset takes what the client has not read yet.
    t.match(await curl('--max-time', '30', url), { code: 56, body: /\.$/ }, name)
    t.match(await receipt, { status: 'source_stalled', errorCode: 'CSV_EXPORT_SOURCE_STALLED' })
  }
})

t.test('sourceTimeout measures each wait, not the sum of them', async (t) => {
  const { url } = await serve(t, (app) =>
    app.get('/', (_request, reply) =>
      reply.csv(
        async function* () {
          for (let row = 0; row < 6; row++) {
            await new Promise((resolve) => setTimeout(resolve, 50))
            yield [row]
          }
        },
        { sourceTimeout: 200, header: false }
      )
    )
  )
  t.match(await curl(url), { code: 0, body: '0\n1\n2\n3\n4\n5\n' })
})

t.test('stallTimeout: a client that takes nothing', async (t) => {
  for (const http2 of [false, true]) {
    const source = endless()
    const { receipt, onReceipt } = receiptOf()
    const { url } = await serve(
      t,
      (app) =>
        app.get('/', (_request, reply) =>
          reply.csv(source.rows(), { header: false, stallTimeout: 50, onReceipt })
        ),
      { http2 }
    )
    if (http2) {
      const session = connectHttp2(url)
      const stream = session.request({ ':path': '/' })
      const [error] = await once(stream, 'error')
      t.match(error.message, /INTERNAL_ERROR/)
      session.destroy()
    } else {
      const socket = (await rawClient(url)).pause()
      await source.released
      const closed = new Promise((resolve) => socket.once('close', resolve))
      socket.resume()
      await closed
    }
    await source.released
    t.match(await receipt, { status: 'client_stalled', errorCode: 'CSV_EXPORT_CLIENT_STALLED' })
  }
})

t.test('stallTimeout: a client that takes nothing while a hook listens', { timeout: 10_000 }, async (t) => {
  const source = endless()
  const { receipt, onReceipt } = receiptOf()
  const { url } = await serve(t, (app) => {
    app.addHook('onSend', async (_request, _reply, payload) => (payload as Readable).on('data', () => {}))
    app.get('/', (_request, reply) =>
      reply.csv(source.rows(), { header: false, stallTimeout: 50, onReceipt })
    )
  })
  const socket = (await rawClient(url)).pause()
  t.match(await receipt, { status: 'client_stalled' })
  socket.destroy()
})

t.test('stallTimeout: a client that does not take the end', async (t) => {
  const { receipt, onReceipt } = receiptOf()
  const { url } = await serve(t, (app) =>
    app.get('/', (_request, reply) =>
      reply.csv([['x'.repeat(20_000_000)]], { header: false, stallTimeout: 50, onReceipt })
    )
  )
  const socket = (await rawClient(url)).pause()
  t.match(await receipt, { status: 'client_stalled' })
  socket.destroy()
})

t.test('stallTimeout: each piece of a large cell that is taken begins the wait anew', async (t) => {
  const { receipt, onReceipt } = receiptOf()
  const stallTimeout = 1_234_567
  let socket: Socket | null = null
  const writtenAtBegins: number[] = []
  const note = () => writtenAtBegins.push(socket?.bytesWritten ?? 0)
  const { setTimeout: original } = globalThis
  t.intercept(globalThis, 'setTimeout', {
    value: (callback: () => void, delay: number) => {
      const timer = original(callback, delay)
      if (delay !== stallTimeout) return timer
      note()
      const refresh = timer.refresh.bind(timer)
      timer.refresh = () => {
        note()
        return refresh()
      }
      return timer
    }
  })
  const { url } = await serve(t, (app) =>
    app.get('/', (_request, reply) => {
      socket = reply.raw.socket
      return reply.csv([['x'.repeat(12_000_000)]], { header: false, stallTimeout, onReceipt })
    })
  )
  const client = (await rawClient(url)).resume()
  t.match(await receipt, { status: 'complete' })
  const pieces = writtenAtBegins.map((bytes, index) => bytes - (writtenAtBegins[index - 1] ?? 0))
  t.ok(Math.max(...pieces) < 200_000, `${Math.max(...pieces)} bytes in one wait`)
  client.destroy()
})

t.test('maxDuration', async (t) => {
  const { receipt, onReceipt } = receiptOf()
  const { url } = await serve(t, (app) =>
    app.get('/', (_request, reply) =>
      reply.streamText(
        async function* () {
          for (;;) {
            yield 'x'
            await new Promise(setImmediate)
          }
        },
        { maxDuration: 50, onReceipt }
      )
    )
  )
  t.equal((await curl(url)).code, 56)
  t.match(await receipt, { status: 'limit_reached', errorCode: 'CSV_EXPORT_MAX_DURATION' })
})

const withoutTimeout = skipBefore('5.12.8', 'a handlerTimeout that a hook may answer')
t.test("Fastify's own handlerTimeout", { skip: withoutTimeout }, async (t) => {
  const receipts: Receipt[] = []
  const { url } = await serve(
    t,
    (app) => {
      app.get('/late', { handlerTimeout: 50 }, (_request, reply) =>
        reply.csv(async function* () {
          yield { a: 1 }
          await never
        })
      )
      app.get('/early', { handlerTimeout: 50 }, (_request, reply) => reply.csv(() => never))
    },
    { defaults: { onReceipt: (receipt) => receipts.push(receipt) } }
  )
  t.equal((await curl('--http1.0', `${url}/late`)).code, 56)
  const early = await fetch(`${url}/early`)
  t.equal(early.status, 503)
  t.notOk(early.headers.get('content-disposition'))
  await early.text()
  const timeout = { status: 'limit_reached', errorCode: 'FST_ERR_HANDLER_TIMEOUT' }
  t.match(receipts, [
    { ...timeout, rows: 1 },
    { ...timeout, rows: 0 }
  ])
})

t.test('maxRows', async (t) => {
  const { receipt, onReceipt } = receiptOf()
  const rows = (count: number, pause = false) =>
    async function* () {
      for (let row = 0; row < count; row++) {
        if (pause && row === 3) await new Promise((resolve) => setTimeout(resolve, 10))
        yield [row]
      }
    }
  const { url } = await serve(t, (app) => {
    const options = { header: false, maxRows: 3 }
    app.get('/exactly', (_request, reply) => reply.csv(rows(3), options))
    app.get('/late', (_request, reply) => reply.csv(rows(4, true), { ...options, onReceipt }))
    app.get('/early', (_request, reply) => reply.csv(rows(4), options))
  })
  t.match(await curl(`${url}/exactly`), { code: 0, body: '0\n1\n2\n' })
  t.match(await curl(`${url}/late`), { code: 56, body: '0\n1\n2\n' })
  t.match(await receipt, { status: 'limit_reached', errorCode: 'CSV_EXPORT_MAX_ROWS' })
  const early = await fetch(`${url}/early`)
  t.equal(early.status, 422)
  t.match(await early.json(), { code: 'CSV_EXPORT_MAX_ROWS', message: /more than 3 rows/ })
})

t.test('maxBytes', async (t) => {
  const { receipt, onReceipt } = receiptOf()
  const { url } = await serve(t, (app) => {
    app.get('/exactly', (_request, reply) => reply.csv([['ä']], { header: false, maxBytes: 3 }))
    app.get('/late', (_request, reply) => reply.streamText(['abc', 'de', 'f'], { maxBytes: 3, onReceipt }))
    app.get('/early', (_request, reply) => reply.csv([['ä']], { header: false, maxBytes: 2 }))
  })
  t.match(await curl(`${url}/exactly`), { code: 0, body: 'ä\n' })
  t.match(await curl(`${url}/late`), { code: 56, body: 'abc' }, 'nothing that comes after what was too much')
  t.match(await receipt, { status: 'limit_reached', errorCode: 'CSV_EXPORT_MAX_BYTES', bytes: 3 })
  t.equal((await fetch(`${url}/early`)).status, 422)
})

t.test('maxConcurrent and maxConcurrentPerKey', async (t) => {
  let started = 0
  const release = gate()
  const { url } = await serve(
    t,
    (app) =>
      app.get('/', (_request, reply) =>
        reply.csv(
          async function* () {
            started++
            yield ['first']
            await release.opened
          },
          { header: false }
        )
      ),
    {
      defaults: {
        maxConcurrent: 3,
        maxConcurrentPerKey: 1,
        concurrencyKey: (request) => String(request.headers.user)
      }
    }
  )
  const as = (user: string) => fetch(url, { headers: { user } })
  const running = [await as('a'), await as('b')]
  const again = await as('a')
  t.equal(again.status, 429)
  t.match(Number(again.headers.get('retry-after')), 10)
  t.notOk(again.headers.get('content-disposition'))
  t.match(await again.json(), { code: 'CSV_EXPORT_TOO_MANY_FOR_KEY' })
  running.push(await as('c'))
  const over = await as('d')
  t.equal(over.status, 503)
  t.match(Number(over.headers.get('retry-after')), 10)
  t.match(await over.json(), { code: 'CSV_EXPORT_TOO_MANY' })
  t.equal(started, 3, 'a refused export never starts its source')
  release.open()
  for (const response of running) await response.text()
  t.equal((await as('a')).status, 200, 'there is room again')
})
