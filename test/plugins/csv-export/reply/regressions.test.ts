import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { connect as connectHttp2, constants } from 'node:http2'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable, Transform } from 'node:stream'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import csvExport, { type Receipt, type SourceContext } from '../../../../plugins/csv-export/index.ts'
import { curl, gate, serve } from '../../../helper.ts'

/** One row that has gone out, then an error. */
async function* failLate(headersSent: () => boolean): AsyncGenerator<[number]> {
  yield [1]
  while (!headersSent()) await new Promise(setImmediate)
  throw new Error('too late')
}

t.test('a second export for one reply is refused, the first stays whole', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/', async (_request, reply) => {
      const wait = gate()
      reply.csv(
        (async function* () {
          yield { a: 1 }
          await wait.opened
          yield { a: 2 }
        })()
      )
      t.throws(() => reply.csv([{ b: 1 }]), { code: 'CSV_EXPORT_REPLY_SENT' })
      wait.open()
      return reply
    })
  })
  t.same(await curl(url), { code: 0, body: 'a\n1\n2\n', stderr: '' })
})

t.test('an error handler may answer with an export', async (t) => {
  const { url } = await serve(t, (app) => {
    app.setErrorHandler((_error, _request, reply) => reply.code(500).csv([{ failed: 'yes' }]))
    app.get('/', (_request, reply) => reply.csv(() => Promise.reject(new Error('no'))))
  })
  t.equal((await curl(url)).body, 'failed\nyes\n')
})

for (const http2 of [false, true]) {
  t.test(`so it may after an export that failed by another error, HTTP/${http2 ? 2 : 1}`, async (t) => {
    const receipts: Receipt[] = []
    const { url } = await serve(
      t,
      (app) => {
        app.setErrorHandler((_error, _request, reply) => reply.code(500).csv([{ failed: 'yes' }]))
        app.get('/', async (_request, reply) => {
          const asked = gate()
          const audit = asked.opened.then(() => Promise.reject(new Error('no')))
          const rows = ({ signal }: SourceContext) => {
            asked.open()
            return once(signal, 'abort')
          }
          await Promise.all([reply.csv(rows), audit])
        })
      },
      { http2, defaults: { onReceipt: (receipt) => receipts.push(receipt) } }
    )
    const result = await curl(http2 ? '--http2-prior-knowledge' : '--http1.0', url)
    t.same(result, { code: 0, body: 'failed\nyes\n', stderr: '' })
    t.match(receipts, [{ status: 'source_failed' }, { status: 'complete' }])
  })
}

t.test('an async handler that does not return the reply gets an error that says so', async (t) => {
  const { url, log } = await serve(t, (app) => {
    app.get('/', async (_request, reply) => {
      reply.csv(
        (async function* () {
          await new Promise(setImmediate)
          yield { a: 1 }
        })()
      )
    })
  })
  const reply = JSON.parse((await curl(url)).body)
  t.match(reply, {
    statusCode: 500,
    code: 'CSV_EXPORT_NOT_RETURNED',
    message: /return what reply\.csv\(\) gives/
  })
  t.match(await log.find(/return what/), { level: 50, err: { code: 'CSV_EXPORT_NOT_RETURNED' } })
})

t.test('a hook that listens for data does not end the body', async (t) => {
  const { url } = await serve(t, (app) => {
    app.addHook('onSend', async (_request, _reply, payload) => {
      ;(payload as Readable).on('data', () => {})
      return payload
    })
    app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
  })
  t.equal((await curl(url)).body, 'a\n1\n')
})

t.test('a hook that pipes the body into a stream of its own', async (t) => {
  const { url } = await serve(t, (app) => {
    app.addHook('onSend', async (request, _reply, payload) =>
      request.url === '/other' ? payload : (payload as Readable).pipe(new PassThrough())
    )
    app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
    app.get('/fails', (_request, reply) => reply.csv(() => Promise.reject(new Error('no'))))
  })
  t.equal((await curl(url)).body, 'a\n1\n')
  t.match(await curl(`${url}/fails`), { code: 0, body: /no/ })
})

t.test('a content-length of the route does not cut the body', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.header('content-length', 3).csv([{ a: 1 }, { a: 2 }]))
  })
  t.equal((await curl(url)).body, 'a\n1\n2\n')
})

t.test('an HTTP/2 client gone before the reply was made', async (t) => {
  const arrived = gate()
  const gone = gate()
  let opened = false
  const { url, log } = await serve(
    t,
    (app) => {
      app.get('/', async (_request, reply) => {
        arrived.open()
        await once(reply.raw, 'close')
        gone.open()
        return reply.csv(() => {
          opened = true
          return [{ a: 1 }]
        })
      })
    },
    { http2: true }
  )
  const session = connectHttp2(url)
  const stream = session.request({ ':path': '/' })
  await arrived.opened
  stream.close(constants.NGHTTP2_CANCEL)
  await gone.opened
  await log.find(/client_gone/)
  t.notOk(opened)
  session.close()
})

t.test('a stream that is silent when its client leaves', async (t) => {
  const cancelled = gate()
  const readable = new Readable({ objectMode: true, read() {} })
  readable.push({ a: 1 })
  const web = new ReadableStream({
    start: (controller) => controller.enqueue({ a: 1 }),
    cancel: () => cancelled.open()
  })
  const { url } = await serve(t, (app) => {
    app.get('/readable', (_request, reply) => reply.csv(readable))
    app.get('/web', (_request, reply) => reply.csv<any>(web as any))
  })
  for (const path of ['/readable', '/web']) {
    const response = await new Promise<IncomingMessage>((resolve) =>
      get(url + path, { agent: false }, resolve)
    )
    await once(response, 'data')
    response.on('error', () => {}).destroy()
  }
  if (!readable.closed) await once(readable, 'close')
  await cancelled.opened
  t.pass('both are released')
})

t.test('a pipelined reply that fails behind a slower one', async (t) => {
  const first = gate()
  const { url, log } = await serve(t, (app) => {
    app.get('/slow', async () => {
      await first.opened
      return 'slow'
    })
    app.get('/fail', (_request, reply) =>
      reply.csv(
        failLate(() => reply.raw.headersSent),
        { header: false }
      )
    )
  })
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  const closed = new Promise((resolve) => socket.on('error', () => {}).on('close', resolve))
  socket.resume()
  socket.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /fail HTTP/1.1\r\nHost: x\r\n\r\n')
  first.open()
  await log.find(/source_failed/)
  await closed
  t.pass('the connection is broken when its turn comes')
})

t.test('a late error over TLS', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'fastify-csv-export-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost', '-days', '1']
  execFileSync('openssl', [...request, '-keyout', key, '-out', cert], { stdio: 'ignore' })
  const app = Fastify({
    https: { key: readFileSync(key), cert: readFileSync(cert) },
    forceCloseConnections: true
  }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(csvExport)
  app.get('/', (_request, reply) =>
    reply.csv(
      failLate(() => reply.raw.headersSent),
      { header: false }
    )
  )
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  for (const version of ['--http1.0', '--http1.1']) {
    t.equal((await curl('-k', '--no-alpn', version, url)).code, 56, version)
  }
})

t.test(
  'an export that the server ends while a hook makes it wait is an error reply, not an empty file',
  async (t) => {
    const reached = gate()
    const wait = gate()
    const { app, url } = await serve(t, (app) => {
      // Called after the plugin's own, which ends the export.
      app.addHook('preClose', async () => wait.open())
      app.addHook('onSend', async (_request, _reply, payload) => {
        reached.open()
        await wait.opened
        return payload
      })
      app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
    })
    const answer = curl('-i', url)
    await reached.opened
    await app.close()
    t.match(await answer, { code: 0, body: /^HTTP\/1.1 503 [\s\S]*CSV_EXPORT_SERVER_CLOSING/ })
  }
)

t.test('a stream that a hook has put in between fails half-way', async (t) => {
  const { url, log } = await serve(t, (app) => {
    app.addHook('onSend', async (_request, _reply, payload) => {
      let chunks = 0
      const transform = (
        chunk: unknown,
        _encoding: unknown,
        done: (error: Error | null, data?: unknown) => void
      ) => (chunks++ < 3 ? done(null, chunk) : done(new Error('broken hook')))
      return (payload as Readable).pipe(new Transform({ transform }))
    })
    app.get('/', (_request, reply) => reply.csv(Array(10_000).fill({ a: 'x'.repeat(100) })))
  })
  t.equal((await curl('--http1.0', url)).code, 56, 'HTTP/1.0 sees it too')
  const { export: receipt, err } = await log.find(/^export /)
  t.match([receipt.status, err.message], ['source_failed', 'broken hook'])
})

t.test('a client that reads trailers, and a reply without a body', async (t) => {
  const { url } = await serve(t, (app) => {
    app.addHook('onSend', async (request, reply, payload) => {
      if (request.url === '/hook') reply.code(304)
      return payload
    })
    app.get('/hook', (_request, reply) => reply.csv([{ a: 1 }]))
    app.get('/204', (_request, reply) => reply.code(204).csv([{ a: 1 }]))
  })
  for (const [path, status] of [
    ['/hook', 304],
    ['/204', 204]
  ] as const) {
    const { code, body } = await curl('-i', '-H', 'TE: trailers', url + path)
    t.equal(code, 0)
    t.match(body, new RegExp(`^HTTP/1.1 ${status}`))
    t.notMatch(body, /^(trailer|transfer-encoding):/im)
  }
})

t.test('a hook that throws after reply.csv() leaves nothing of a download', async (t) => {
  const { url } = await serve(t, (app) => {
    app.addHook('onSend', async (_request, _reply, payload) => {
      if (typeof (payload as Readable).pipe === 'function') throw new Error('hook')
    })
    app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
  })
  const { body } = await curl('-i', '-H', 'TE: trailers', url)
  t.match(body, /^HTTP\/1.1 500/)
  t.notMatch(body, /content-disposition|trailer/i)
})

t.test('a whole reply to inject() is on record as complete', async (t) => {
  const { app, log } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
  })
  t.equal((await app.inject('/')).body, 'a\n1\n')
  t.match((await log.find(/^export /)).export, { status: 'complete', bytes: 4 })
})

t.test('an error before the coder has given a byte', async (t) => {
  const { url, log } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv(
        (function* () {
          for (let row = 0; row < 15; row++) yield { a: 'x'.repeat(100) }
          throw new Error('early')
        })(),
        { chunkSize: 1_024, compress: ['zstd'] }
      )
    )
  })
  t.match((await curl('-H', 'Accept-Encoding: zstd', url)).body, /early/)
  t.equal((await log.find(/^export /)).export.contentCoding, null)
})

t.test('a body of which a hook has taken the beginning is not sent without it', async (t) => {
  const { url } = await serve(t, (app) => {
    app.addHook('onSend', async (_request, _reply, payload) => {
      // It is called for the error reply too.
      if (payload instanceof Readable) {
        await once(payload, 'readable')
        payload.read(1)
      }
      return payload
    })
    app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
  })
  const response = await fetch(url)
  t.equal(response.status, 500)
  t.match(await response.json(), { code: 'CSV_EXPORT_BODY_DESTROYED' })
})

t.test('an export that Fastify refuses to send lets go of its source, once', async (t) => {
  let released = 0
  const rows = {
    [Symbol.asyncIterator]: () => assert.fail('nobody asked'),
    next: () => assert.fail('nobody asked'),
    return: () => released++
  }
  const { url } = await serve(t, (app) => {
    app.addHook('onError', async (_request, reply) => {
      try {
        reply.csv(rows as AsyncIterable<object>)
      } catch (error) {
        t.match(error, { code: 'FST_ERR_SEND_INSIDE_ONERR' })
      }
    })
    app.get('/', async () => Promise.reject(new Error('no')))
  })
  const response = await fetch(url)
  t.equal(response.status, 500)
  t.match(await response.json(), { message: 'no' })
  t.equal(released, 1)
})
