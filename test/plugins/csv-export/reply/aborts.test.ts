import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect, constants } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import type { Receipt } from '../../../../plugins/csv-export/index.ts'
import { until } from '../../../clients.ts'
import { gate, serve } from '../../../helper.ts'

/** A source that waits for good after its first rows, and tells what it is told. */
function waitingSource() {
  const signal = gate<AbortSignal>()
  const returned = gate()
  const rows = (context: { signal: AbortSignal }) => {
    signal.open(context.signal)
    let count = 0
    return {
      [Symbol.asyncIterator]: () => ({
        next: () =>
          count++ < 3
            ? Promise.resolve({ done: false, value: { a: count } })
            : new Promise<IteratorResult<{ a: number }>>(() => {}),
        return() {
          returned.open()
          return Promise.resolve({ done: true as const, value: undefined })
        }
      })
    }
  }
  return { rows, signal: signal.opened, returned: returned.opened }
}

const request = (url: string) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    get(url, { agent: false }, resolve).on('error', reject)
  })

t.test('a client that leaves', async (t) => {
  const source = waitingSource()
  const raw = gate<ServerResponse>()
  const { url, log } = await serve(t, (app) => {
    app.get('/', (_request, reply) => {
      raw.open(reply.raw)
      return reply.csv(source.rows)
    })
  })
  const response = await request(url)
  await once(response, 'data')
  response.on('error', () => {})
  response.destroy()
  const signal = await source.signal
  if (!signal.aborted) await once(signal, 'abort')
  t.match(signal.reason, { code: 'CSV_EXPORT_CLIENT_GONE' })
  await source.returned
  const line = await log.find(/client_gone/)
  t.equal(line.level, 30)
  t.match(line, { export: { rows: 3, bytes: 8 } })
  t.equal((await raw.opened).listenerCount('drain'), 0, 'nothing stays registered')
  t.notOk(log.lines.some(({ level }) => level > 30))
})

t.test('a client that leaves without reading', async (t) => {
  let released = false
  const ended = gate()
  const { url, log } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv(
        (async function* () {
          try {
            for (;;) yield ['x'.repeat(1000)]
          } finally {
            released = true
            ended.open()
          }
        })(),
        { header: false }
      )
    )
  })
  const response = await request(url)
  response.pause()
  // Long enough for every buffer to fill: the writer then waits for a chunk that is never taken.
  for (let turn = 0; turn < 2000; turn++) await new Promise(setImmediate)
  response.on('error', () => {})
  response.destroy()
  await ended.opened
  t.ok(released)
  t.ok((await log.find(/client_gone/)).export.rows > 0)
})

t.test('a client that leaves on HTTP/2', async (t) => {
  const source = waitingSource()
  const { url, log } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv(source.rows)), {
    http2: true
  })
  const session = connect(url)
  const stream = session.request({ ':path': '/' })
  await once(stream, 'data')
  stream.close(constants.NGHTTP2_CANCEL)
  await source.returned
  t.ok((await source.signal).aborted)
  t.match(await log.find(/client_gone/), { export: { rows: 3 } })
  session.close()
})

t.test('a client that leaves while a function still opens its rows', async (t) => {
  const opened = gate()
  const rows = gate<AsyncGenerator<{ a: number }>>()
  const ended = gate()
  const { url, log } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv(() => {
        opened.open()
        return rows.opened
      })
    )
  })
  const outgoing = get(url, { agent: false }).on('error', () => {})
  await opened.opened
  outgoing.destroy()
  await log.find(/client_gone/)
  const late = (async function* () {
    yield { a: 1 }
  })()
  late.return = () => {
    ended.open()
    return Promise.resolve({ done: true, value: undefined })
  }
  rows.open(late)
  await ended.opened
  t.pass('rows that come too late are let go of')
})

t.test('a client that left before the reply was made', async (t) => {
  const source = waitingSource()
  const arrived = gate()
  let called = false
  const { url } = await serve(t, (app) => {
    app.get('/', async (_request, reply) => {
      arrived.open()
      await once(reply.raw, 'close')
      return reply.csv({
        // biome-ignore lint/correctness/useYield: never started
        async *[Symbol.asyncIterator](): AsyncGenerator<object> {
          called = true
        },
        next: () => assert.fail('never started'),
        return: () => source.rows({ signal: AbortSignal.abort() })[Symbol.asyncIterator]().return()
      } as AsyncIterable<Record<string, any>>)
    })
  })
  const outgoing = get(url, { agent: false }).on('error', () => {})
  await arrived.opened
  outgoing.destroy()
  await source.returned
  t.notOk(called, 'the source is not started')
})

t.test('a server that has closed the connection before the reply was made blames no client', async (t) => {
  const { url, log } = await serve(t, (app) =>
    app.get('/', async (_request, reply) => {
      reply.raw.destroy()
      await once(reply.raw, 'close')
      reply.csv([{ a: 1 }])
      reply.log.info('called')
      return reply
    })
  )
  await t.rejects(fetch(url))
  await log.find(/called/)
  t.strictSame(
    log.lines.filter(({ msg }) => msg.startsWith('export')),
    [],
    'nothing began'
  )
})

t.test('a server that closes the connection of a client that reads slowly blames no client', async (t) => {
  type Close = (raw: ServerResponse, app: FastifyInstance) => unknown
  const ways: [status: string, close: Close][] = [
    ['source_failed', (raw) => raw.destroy()],
    ['source_failed', (raw) => raw.socket?.destroy()],
    ['source_failed', (raw) => raw.socket?.resetAndDestroy()],
    ['server_ended', (_raw, app) => app.csvExports.running().map(({ id }) => app.csvExports.end(id))]
  ]
  for (const [status, close] of ways) {
    const receipts: Receipt[] = []
    const { opened: responded, open: respond } = gate<ServerResponse>()
    const { app, url } = await serve(
      t,
      (app) => {
        app.get('/', (_request, reply) => {
          respond(reply.raw)
          return reply.csv(function* () {
            for (;;) yield ['x'.repeat(1000)]
          })
        })
        app.get('/behind', (_request, reply) => reply.csv([['x']]))
      },
      { defaults: { header: false, onReceipt: (receipt) => receipts.push(receipt) } }
    )
    const { opened: closed, open: onClose } = gate<unknown>()
    const client = connectSocket(Number(new URL(url).port), '127.0.0.1')
    client.on('error', () => {}).once('close', onClose)
    client.write(['/', '/behind'].map((path) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`).join(''))
    const raw = await responded
    await until(() => raw.socket?.writableNeedDrain === true)
    close(raw, app)
    client.resume()
    await closed
    await app.close()
    t.match(receipts, [{ report: '/', status }], `${close}`)
    t.equal(receipts.length, 1, 'none for the export behind it, which had not begun')
  }
})

t.test('the signal of a whole download never fires', async (t) => {
  let signal: AbortSignal | undefined
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv((context) => {
        signal = context.signal
        return [{ a: 1 }]
      })
    )
  })
  const response = await request(url)
  response.resume()
  await once(response, 'close')
  await new Promise(setImmediate)
  t.equal(signal?.aborted, false)
})
