import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectHttp2, constants, type Http2ServerResponse } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { PassThrough, pipeline, Readable, Transform } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import type { FastifyReply, RouteShorthandOptions } from 'fastify'
import t, { type Test } from 'tap'
import { type Receipt, type SourceContext, toCsv } from '../../../../plugins/csv-export/index.ts'
import { until } from '../../../clients.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { makeCertificate } from '../../../interop/servers.ts'
import { skipBefore, skipWithout } from '../../../programs.ts'

// Who has ended a reply, where both sides could have.

const errorOf = (syscall: string, code: string) => Object.assign(new Error(code), { code, syscall })

interface Begun {
  receipt: Promise<Receipt>
  /** Of the client, below TLS and HTTP/2. */
  socket: Socket
  /** Its other end, as a server gets it that keeps a list of its own. */
  accepted: Socket
}

/** An export that runs, and has begun, over a connection of its own. */
async function begin(
  t: Test,
  protocol: 'http1' | 'http2' | 'tls',
  {
    server = {},
    ...options
  }: {
    server?: object
    whileRunning?(reply: FastifyReply, accepted: Socket): void
    next?: object | undefined
  } = {}
): Promise<Begun> {
  const { opened: receipt, open: onReceipt } = gate<Receipt>()
  const { opened: accepted, open: onAccepted } = gate<Socket>()
  const isHttp2 = protocol === 'http2'
  const { url } = await serve(
    t,
    (app) => {
      app.server.once('connection', onAccepted)
      app.get('/', (_request, reply) =>
        reply.csv(async function* ({ signal }) {
          yield { a: 1 }
          await setTimeout(20)
          options.whileRunning?.(reply, await accepted)
          if (options.next) yield options.next
          await setTimeout(2_000, undefined, { signal }).catch(() => {})
        })
      )
    },
    { http2: isHttp2, server, defaults: { onReceipt } }
  )
  const socket = connect(Number(new URL(url).port), '127.0.0.1').on('error', () => {})
  t.teardown(() => socket.destroy())
  const begun = gate<unknown>()
  if (isHttp2) {
    const session = connectHttp2(url, { createConnection: () => socket }).on('error', () => {})
    session
      .request({ ':path': '/' })
      .on('error', () => {})
      .once('data', begun.open)
  } else {
    const stream = protocol === 'tls' ? connectTls({ socket, rejectUnauthorized: false }) : socket
    stream.on('error', () => {}).once('data', begun.open)
    stream.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  }
  await begun.opened
  return { receipt, socket, accepted: await accepted }
}

for (const [what, error] of Object.entries({
  'a database that refuses a connection': errorOf('connect', 'ECONNREFUSED'),
  'a database whose connection is reset': errorOf('read', 'ECONNRESET')
})) {
  for (const protocol of ['http1', 'http2'] as const) {
    t.test(`raw.destroy() with the error of ${what} is no client that left: ${protocol}`, async (t) => {
      const { receipt } = await begin(t, protocol, { whileRunning: ({ raw }) => void raw.destroy(error) })
      t.match(await receipt, { status: 'source_failed', errorCode: error.code })
    })
  }
}

t.test('nor is a reply that is destroyed so before its head', async (t) => {
  const receipts: Receipt[] = []
  const { url } = await serve(
    t,
    (app) => {
      const onSend = async (_request: unknown, { raw }: FastifyReply, payload: unknown) => {
        raw.destroy(errorOf('read', 'ECONNRESET'))
        return payload
      }
      app.get('/', { onSend }, (_request, reply) => reply.csv([{ a: 1 }]))
    },
    { defaults: { onReceipt: (receipt) => receipts.push(receipt) } }
  )
  t.match(await curl(url), { code: 56 })
  t.same(receipts, [], 'no export has begun')
})

t.test('nor is a socket that is destroyed with the error of another connection', async (t) => {
  const { receipt } = await begin(t, 'http1', {
    whileRunning: ({ request }) => void request.socket.destroy(errorOf('connect', 'ECONNREFUSED'))
  })
  t.match(await receipt, { status: 'source_failed', errorCode: 'ECONNREFUSED' })
})

for (const protocol of ['http1', 'http2'] as const) {
  for (const end of ['destroy', 'resetAndDestroy', 'destroySoon'] as const) {
    t.test(`nor is a connection that the server ends with ${end}(): ${protocol}`, async (t) => {
      const { receipt, accepted } = await begin(t, protocol)
      accepted[end]()
      t.match(await receipt, { status: 'source_failed', errorCode: 'CSV_EXPORT_BODY_DESTROYED' })
    })
  }

  for (const end of ['end', 'destroy', 'resetAndDestroy'] as const) {
    t.test(`a client has left that ends its connection with ${end}(): ${protocol}`, async (t) => {
      const { receipt, socket } = await begin(t, protocol)
      socket[end]()
      t.match(await receipt, { status: 'client_gone' })
    })
  }
}

t.test(
  'nor is the TCP connection below TLS, be there more to write or not',
  { skip: skipWithout('openssl', 'openssl', 'version') },
  async (t) => {
    const { key, certificate, remove } = makeCertificate()
    t.teardown(remove)
    const server = { https: { key: readFileSync(key), cert: readFileSync(certificate) } }
    for (const next of [undefined, { a: 'x'.repeat(100_000) }]) {
      for (const end of ['end', 'destroy', 'resetAndDestroy', 'destroySoon'] as const) {
        t.test(`${end}(), ${next === undefined ? 'nothing' : 'a chunk'} to write`, async (t) => {
          const whileRunning = (_reply: FastifyReply, accepted: Socket) => void accepted[end]()
          const { receipt } = await begin(t, 'tls', { server, next, whileRunning })
          t.match(await receipt, { status: 'source_failed', errorCode: 'CSV_EXPORT_BODY_DESTROYED' })
        })
      }
    }
  }
)

// Until its connection ends, Node 22 says nothing of it, and its server waits for the session.
const untold = Number.parseInt(process.versions.node, 10) < 24 && 'Node 22'

t.test('a client that sends what is no HTTP/2 has ended it', { skip: untold }, async (t) => {
  const { receipt, socket } = await begin(t, 'http2')
  socket.write('these bytes are no frame of HTTP/2, whatever they are')
  t.match(await receipt, { status: 'client_gone' })
})

t.test(
  'a client whose bytes TLS cannot read has ended it',
  {
    skip: skipWithout('openssl', 'openssl', 'version')
  },
  async (t) => {
    const { key, certificate, remove } = makeCertificate()
    t.teardown(remove)
    const server = { https: { key: readFileSync(key), cert: readFileSync(certificate) } }
    const { receipt, socket } = await begin(t, 'tls', { server })
    const applicationData = [0x17, 3, 3, 0, 32]
    socket.write(Buffer.from([...applicationData, ...Buffer.alloc(32)]))
    t.match(await receipt, { status: 'client_gone' })
  }
)

const late = 300

/** What the server itself takes its time for, when the source has ended. */
const delays: Record<string, { route: RouteShorthandOptions; prepare?(reply: FastifyReply): void }> = {
  'a trailer': {
    route: {},
    prepare: (reply) => void reply.trailer('x-late', async () => setTimeout(late, 'late'))
  },
  "a hook's stage": {
    route: {
      onSend: async (_request, _reply, payload) =>
        (payload as NodeJS.ReadableStream).pipe(
          new Transform({
            transform: (chunk, _encoding, done) => done(null, chunk),
            flush: (done) => void setTimeout(late).then(() => done())
          })
        )
    }
  }
}

for (const [what, { route, prepare }] of Object.entries(delays)) {
  const skip = what === 'a trailer' && skipBefore('5.12.8', 'trailers of a stream')
  for (const http2 of [false, true]) {
    const start = async (t: Test, stallTimeout: number) => {
      const { opened: receipt, open: onReceipt } = gate<Receipt>()
      const { url } = await serve(
        t,
        (app) => {
          app.get('/', route, (_request, reply) => {
            prepare?.(reply)
            return reply.csv([{ a: 1 }])
          })
        },
        { http2, defaults: { onReceipt, stallTimeout } }
      )
      return { url, receipt }
    }

    t.test(
      `a client is not stalled while ${what} is waited for, HTTP/${http2 ? 2 : 1.1}`,
      { skip },
      async (t) => {
        const { url, receipt } = await start(t, late / 4)
        t.match(await curl(...(http2 ? ['--http2-prior-knowledge'] : []), url), { code: 0, body: 'a\n1\n' })
        t.match(await receipt, { status: 'complete' })
      }
    )

    if (http2) continue
    t.test(`a client that ends its side meanwhile has left, ${what}`, { skip }, async (t) => {
      const { url, receipt } = await start(t, 0)
      const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true })
      socket.on('error', () => {}).resume()
      socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
      socket.once('data', () => socket.end())
      t.match(await receipt, { status: 'client_gone' })
      socket.destroy()
    })
  }
}

const endsOfWritten: Record<string, (raw: Http2ServerResponse, accepted: Socket) => unknown> = {
  'socket.destroy()': (_raw, accepted) => accepted.destroy(),
  'session.destroy()': ({ stream }) => stream.session?.destroy(),
  'session.destroy(error)': ({ stream }) => stream.session?.destroy(new Error('ended')),
  'stream.destroy()': ({ stream }) => stream.destroy(),
  'stream.close(CANCEL)': ({ stream }) => stream.close(constants.NGHTTP2_CANCEL),
  'raw.destroy()': (raw) => raw.destroy()
}

/** A stream of HTTP/2 whose body has been written to its end, of which its client has taken nothing. */
async function writtenStream(t: Test) {
  const { opened: receipt, open: onReceipt } = gate<Receipt>()
  const { opened: raw, open: begin } = gate<unknown>()
  const { opened: accepted, open: onAccepted } = gate<Socket>()
  const { url } = await serve(
    t,
    (app) => {
      app.server.once('connection', onAccepted)
      app.get('/', (_request, reply) => {
        begin(reply.raw)
        return reply.csv([['x'.repeat(1_000)]], { header: false })
      })
    },
    { http2: true, defaults: { onReceipt } }
  )
  const session = connectHttp2(url, { settings: { initialWindowSize: 0 } }).on('error', () => {})
  t.teardown(() => session.destroy())
  const client = session.request({ ':path': '/' }).on('error', () => {})
  const response = (await raw) as Http2ServerResponse
  await until(() => response.stream.writableEnded)
  return { client, response, receipt, accepted: await accepted }
}

for (const [name, end] of Object.entries(endsOfWritten)) {
  t.test(`${name} of the server, once all is written, is no client that left, and no good end`, async (t) => {
    const { client, response, receipt, accepted } = await writtenStream(t)
    const closed = once(client.resume(), 'close').catch(() => {})
    end(response, accepted)
    const errorCode = name.endsWith('(error)') ? 'Error' : 'CSV_EXPORT_BODY_DESTROYED'
    t.match(await receipt, { status: 'source_failed', errorCode })
    await closed
    t.not(client.rstCode, constants.NGHTTP2_NO_ERROR)
  })
}

for (const version of ['--http1.0', '--http1.1', '--http2-prior-knowledge']) {
  t.test(`a hook whose own stream fails behind the last row breaks the body, ${version}`, async (t) => {
    const { opened: receipt, open: onReceipt } = gate<Receipt>()
    async function* failing(payload: Readable) {
      yield* payload
      await setTimeout(20)
      throw new Error('the last part')
    }
    const { url } = await serve(
      t,
      (app) =>
        app.get(
          '/',
          { onSend: async (_request, _reply, payload) => Readable.from(failing(payload as Readable)) },
          (_request, reply) => reply.csv([{ a: 1 }])
        ),
      { http2: version.startsWith('--http2'), defaults: { onReceipt } }
    )
    t.match(await curl(version, url), { code: version.startsWith('--http2') ? 92 : 56, body: 'a\n1\n' })
    t.match(await receipt, { status: 'source_failed', errorCode: 'CSV_EXPORT_BODY_DESTROYED' })
  })
}

t.test('stream.close() of the server, once all is written, leaves it whole', async (t) => {
  const { client, response, receipt } = await writtenStream(t)
  response.stream.close()
  const whole = text(client)
  client.session?.settings({ initialWindowSize: 65_535 })
  t.equal(await whole, `${'x'.repeat(1_000)}\n`)
  t.match(await receipt, { status: 'complete' })
})

t.test('a reader of inject() that takes nothing is stalled behind a stage of a hook, too', async (t) => {
  const { opened: receipt, open: onReceipt } = gate<Receipt>()
  const { app } = await serve(
    t,
    (app) =>
      app.get(
        '/',
        { onSend: async (_request, _reply, payload) => (payload as Readable).pipe(new PassThrough()) },
        (_request, reply) =>
          reply.csv(function* () {
            for (;;) yield ['x'.repeat(1_000)]
          })
      ),
    { defaults: { onReceipt, stallTimeout: 100, header: false } }
  )
  const { stream } = await app.inject({ url: '/', payloadAsStream: true })
  const destroyed = new Promise((resolve) => stream().once('error', resolve))
  t.match(await receipt, { status: 'client_stalled' })
  await destroyed
})

t.test('an export that fails with the end of another has not been left by its client', async (t) => {
  for (const place of ['while it is opened', 'before its first row', 'after it']) {
    const waits = [gate(), gate()]
    const receipts: Receipt[] = []
    let shared: Promise<never> | undefined
    let waiting = 0
    const wait = (signal: AbortSignal) => {
      shared ??= once(signal, 'abort').then(() => Promise.reject(signal.reason))
      waits[waiting++]?.open()
      return shared
    }
    const { url } = await serve(
      t,
      (app) => {
        app.get('/', (_request, reply) =>
          reply.csv<object>(async ({ signal }) => {
            if (place === 'while it is opened') await wait(signal)
            return (async function* () {
              if (place === 'after it') yield { a: 1 }
              await wait(signal)
            })()
          })
        )
      },
      { defaults: { onReceipt: (receipt) => receipts.push(receipt) } }
    )
    const leaving = new AbortController()
    const first = fetch(url, { signal: leaving.signal }).then((response) => response.text())
    await waits[0]?.opened
    const second = fetch(url)
    await waits[1]?.opened
    if (place === 'after it') await second
    leaving.abort()
    await t.rejects(first)
    const outcome = second.then(async (response) => (await response.text()) && response.status)
    if (place === 'after it') await t.rejects(outcome, place)
    else t.equal(await outcome, 500, place)
    await until(() => receipts.length === 2)
    t.same(receipts.map(({ errorCode }) => errorCode).sort(), [
      'CSV_EXPORT_CLIENT_GONE',
      'CSV_EXPORT_SOURCE_FAILED'
    ])
  }
})

t.test('nor has one that a handler or a hook ends with it', async (t) => {
  const { opened, open } = gate<Error>()
  const other = toCsv(({ signal }) => {
    signal.addEventListener('abort', () => open(signal.reason))
    return new Readable({ read() {} })
  })
  other.next()
  await setTimeout(20)
  await other.return?.()
  const abandoned = await opened
  t.match(abandoned, { code: 'CSV_EXPORT_ABANDONED' })
  const receipts: Receipt[] = []
  const { url } = await serve(
    t,
    (app) => {
      const rows = async function* ({ signal }: SourceContext) {
        yield { a: 1 }
        await once(signal, 'abort')
      }
      app.get('/handler', async (_request, reply) => {
        reply.csv<object>(({ signal }) => once(signal, 'abort').then(() => []))
        await setTimeout(50)
        throw abandoned
      })
      app.get('/destroy', (_request, reply) => {
        reply.csv(rows)
        setTimeout(50).then(() => reply.raw.destroy(abandoned))
      })
      const failing = () => new Transform({ transform: (_chunk, _encoding, done) => done(abandoned) })
      const hooks: Record<string, (payload: Readable) => Readable> = {
        pipe: (payload) => payload.pipe(failing()),
        pipeline: (payload) => pipeline(payload, failing(), () => {}) as Readable
      }
      for (const [name, hook] of Object.entries(hooks)) {
        app.register(async (app) => {
          app.addHook('onSend', async (_request, _reply, payload) => hook(payload as Readable))
          app.get(`/${name}`, (_request, reply) => reply.csv(rows))
        })
      }
      app.get('/source', (_request, reply) =>
        reply.csv(() => {
          throw abandoned
        })
      )
    },
    { defaults: { onReceipt: (receipt) => receipts.push(receipt) } }
  )
  for (const path of ['handler', 'destroy', 'pipe', 'pipeline', 'source']) {
    await fetch(`${url}/${path}`)
      .then((response) => response.text())
      .catch(() => {})
    await until(() => receipts.length === 1)
    t.match(receipts.pop(), { status: 'source_failed', errorCode: 'CSV_EXPORT_SOURCE_FAILED' }, path)
  }
})
