import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { connect, constants } from 'node:http2'
import t from 'tap'
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
  const raw = gate<import('node:http').ServerResponse>()
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
