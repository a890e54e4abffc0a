import { AsyncLocalStorage } from 'node:async_hooks'
import { channel } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { connect as connectHttp2, constants } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { PassThrough, Readable, Writable } from 'node:stream'
import { setImmediate as turn, setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { CsvOptions, PluginOptions, SourceContext, SourceInput } from '../../plugins/csv-export/index.ts'
import { gate } from '../helper.ts'
import { soon, watch } from './watch.ts'

// On ecf8ce8, 93 of 344 assertions fail: the log, channels, the store, onReceipt and signals have lost the context of the
// request.

/** As a package for request contexts or for traces keeps what belongs to a request. */
const context = new AsyncLocalStorage<string>()

interface Ending {
  /** What ends it, with the export running; nothing if it ends by itself. */
  end?(by: { url: string; app: FastifyInstance; released: Promise<unknown> }): Promise<unknown>
  http2?: boolean
  defaults?: PluginOptions
  csv?: CsvOptions<any>
  handlerTimeout?: number
  /** What the source does after its first row; it waits for its signal if this is left out. */
  source?(context: SourceContext): Promise<void>
  /** The source waits for it before its first row. */
  isEarly?: boolean
  hook?: (payload: Readable) => unknown
  status: string
}

const fetchAll = (url: string) =>
  new Promise<void>((resolve) => {
    get(url, { agent: false, headers: { te: 'trailers' } }, (response) =>
      response
        .on('error', () => {})
        .on('close', resolve)
        .resume()
    ).on('error', () => resolve())
  })

async function firstBytes(url: string): Promise<IncomingMessage> {
  const request = get(url, { agent: false }).on('error', () => {})
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  response.on('error', () => {})
  await once(response, 'data')
  return response
}

async function http2(url: string) {
  const session = connectHttp2(url).on('error', () => {})
  const stream = session.request({ ':path': '/' }).on('error', () => {})
  await once(stream, 'data')
  return { session, stream }
}

async function cancelOnHttp2(url: string, code: number): Promise<void> {
  const { session, stream } = await http2(url)
  stream.close(code)
  session.close()
}

const endings: Record<string, Ending> = {
  'it is whole': { end: ({ url }) => fetchAll(url), source: async () => {}, status: 'complete' },
  'it is whole on HTTP/2': {
    http2: true,
    source: async () => {},
    end: async ({ url }) => {
      const { session, stream } = await http2(url)
      await once(stream.resume(), 'close')
      session.close()
    },
    status: 'complete'
  },
  'it fails': {
    end: ({ url }) => fetchAll(url),
    source: () => Promise.reject(new Error('late')),
    status: 'source_failed'
  },
  'its client leaves': {
    end: async ({ url }) => (await firstBytes(url)).destroy(),
    status: 'client_gone'
  },
  'its client leaves before the first row': {
    isEarly: true,
    end: async ({ url }) => {
      const request = get(url, { agent: false }).on('error', () => {})
      await wait(50)
      request.destroy()
    },
    status: 'client_gone'
  },
  'its client resets the connection': {
    end: async ({ url }) => (await firstBytes(url)).socket.resetAndDestroy(),
    status: 'client_gone'
  },
  'its client ends its side': {
    end: async ({ url }) => {
      const socket = connectSocket(Number(new URL(url).port), '127.0.0.1').on('error', () => {})
      socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
      await once(socket, 'data')
      socket.end()
    },
    status: 'client_gone'
  },
  'its client cancels on HTTP/2': {
    http2: true,
    end: ({ url }) => cancelOnHttp2(url, constants.NGHTTP2_CANCEL),
    status: 'client_gone'
  },
  'its client cancels without an error on HTTP/2': {
    http2: true,
    end: ({ url }) => cancelOnHttp2(url, constants.NGHTTP2_NO_ERROR),
    status: 'client_gone'
  },
  'its session ends on HTTP/2': {
    http2: true,
    end: async ({ url }) => (await http2(url)).session.destroy(),
    status: 'client_gone'
  },
  'its client stalls': {
    defaults: { stallTimeout: 100 },
    source: async ({ signal }) => {
      while (!signal.aborted) await turn()
    },
    csv: { chunkSize: 1 },
    end: async ({ url, released }) => {
      const response = await firstBytes(`${url}/?full`)
      response.pause()
      await soon(released, 5_000)
    },
    status: 'client_stalled'
  },
  'its source stalls': {
    defaults: { sourceTimeout: 50 },
    end: ({ url }) => fetchAll(url),
    status: 'source_stalled'
  },
  'its source stalls before the first row': {
    isEarly: true,
    defaults: { sourceTimeout: 50 },
    end: ({ url }) => fetchAll(url),
    status: 'source_stalled'
  },
  maxDuration: { defaults: { maxDuration: 50 }, end: ({ url }) => fetchAll(url), status: 'limit_reached' },
  maxRows: {
    csv: { maxRows: 1 },
    source: async () => {},
    end: ({ url }) => fetchAll(`${url}/?two`),
    status: 'limit_reached'
  },
  maxBytes: {
    csv: { maxBytes: 4, chunkSize: 1 },
    source: async () => {},
    end: ({ url }) => fetchAll(`${url}/?two`),
    status: 'limit_reached'
  },
  handlerTimeout: { handlerTimeout: 50, end: ({ url }) => fetchAll(url), status: 'limit_reached' },
  'the server closes': {
    end: async ({ url, app }) => {
      await firstBytes(url)
      await app.close()
    },
    status: 'server_closing'
  },
  'the server closes on HTTP/2': {
    http2: true,
    end: async ({ url, app }) => {
      const { session } = await http2(url)
      await app.close()
      session.destroy()
    },
    status: 'server_closing'
  },
  'all connections are closed': {
    end: async ({ url, app }) => {
      await firstBytes(url)
      app.server.closeAllConnections()
    },
    status: 'source_failed'
  },
  'a hook destroys it': {
    hook: (payload) => {
      payload.once('resume', () => {})
      setTimeout(() => payload.destroy(new Error('hook')), 50)
      return payload
    },
    end: ({ url }) => fetchAll(url),
    status: 'source_failed'
  },
  'a hook reads it': {
    hook: (payload) => Readable.from(payload),
    source: async () => {},
    end: ({ url }) => fetchAll(url),
    status: 'complete'
  },
  'a hook reads it, and its client leaves': {
    hook: (payload) => Readable.from(payload),
    end: async ({ url }) => (await firstBytes(url)).destroy(),
    status: 'client_gone'
  }
}

/** Where the code of a user is called, and in whose context. */
class Places {
  readonly seen: Record<string, string | undefined> = {}
  readonly note = (place: string) => {
    this.seen[place] = context.getStore()
  }
}

async function attack(
  t: Test,
  { end, source, isEarly, hook, csv, defaults, handlerTimeout, ...rest }: Ending
) {
  const { seen, note } = new Places()
  const released = gate()
  const onEnd = () => note('the channel of ends')
  channel('fastify-csv-export:end').subscribe(onEnd)
  t.teardown(() => channel('fastify-csv-export:end').unsubscribe(onEnd))
  const server = await watch(
    t,
    (app) => {
      app.addHook('onRequest', (request, _reply, done) => context.run(request.id, done))
      if (hook) app.addHook('onSend', async (_request, _reply, payload) => hook(payload as Readable))
      app.get('/', { ...(handlerTimeout && { handlerTimeout }) }, (request, reply) =>
        reply.csv<any>(
          async function* (sourceContext: SourceContext): AsyncGenerator<{ id: string }> {
            const { signal } = sourceContext
            note('the source')
            signal.addEventListener('abort', () => note('the signal'))
            try {
              if (isEarly) await soon(once(signal, 'abort'))
              yield { id: '1' }
              if (request.url.endsWith('two')) yield { id: '2' }
              while (request.url.endsWith('full') && !signal.aborted) {
                yield { id: 'x'.repeat(100_000) }
                await turn()
              }
              if (source) await source(sourceContext)
              else if (!signal.aborted) await soon(once(signal, 'abort'))
              note('the source, again')
            } finally {
              note('finally')
              await turn()
              note('later in finally')
              released.open()
            }
          },
          {
            ...csv,
            cast: {
              string: (text) => {
                note('cast')
                return text
              }
            }
          }
        )
      )
    },
    {
      ...rest,
      server: {
        logger: {
          stream: new Writable({ write: (_line, _encoding, done) => done() }),
          mixin: (line: object) => {
            if ('export' in line) note('the log')
            return {}
          }
        }
      },
      defaults: {
        ...defaults,
        genExportId: ({ id }) => {
          note('genExportId')
          return id
        },
        concurrencyKey: () => {
          note('concurrencyKey')
          return undefined
        },
        onReceipt: () => note('onReceipt'),
        receipts: { put: () => note('the store'), get: () => undefined }
      }
    }
  )
  const { url, app } = server
  // Others run beside it, with a context of their own.
  await context.run('the test', () => end?.({ url, app, released: released.opened }))
  await soon(released.opened)
  return { receipt: await server.receipt(), seen }
}

t.test("what is the user's runs in the context of the request", async (t) => {
  for (const [name, ending] of Object.entries(endings)) {
    t.test(`when ${name}`, async (t) => {
      const { receipt, seen } = await attack(t, ending)
      t.match(receipt, { status: ending.status })
      const places = [
        'genExportId',
        'concurrencyKey',
        'the source',
        'onReceipt',
        'the store',
        'the channel of ends'
      ]
      t.match(
        new Set(Object.keys(seen)),
        new Set([...places, 'finally', 'later in finally']),
        'all were called'
      )
      for (const [place, id] of Object.entries(seen)) t.equal(id, 'req-1', place)
    })
  }
})

const forGood = new Promise<never>(() => {})

/** What is called to let go of a source. */
const released: Record<string, (note: () => void) => SourceInput<any>> = {
  'return() of an iterator': (note) => () => ({
    [Symbol.asyncIterator]: () => ({ next: () => forGood, return: () => note() as never })
  }),
  'destroy() of a stream': (note) => () =>
    new Readable({
      objectMode: true,
      read() {},
      destroy(error, done) {
        note()
        done(error)
      }
    }),
  'cancel() of a web stream': (note) => () => new ReadableStream({ cancel: note }),
  "a stream's listener for 'error'": (note) => () =>
    new Readable({ objectMode: true, read() {} }).on('close', note)
}

/** What lets go of it that was never opened. */
const unopened: Record<string, (note: () => void) => SourceInput<any>> = {
  'return() of a generator': (note) =>
    Object.assign(
      (function* () {
        yield { id: 1 }
      })(),
      { return: note }
    ) as never,
  'destroy() of a stream': (note) =>
    new Readable({
      objectMode: true,
      read() {},
      destroy(error, done) {
        note()
        done(error)
      }
    }),
  'cancel() of a web stream': (note) => new ReadableStream({ cancel: note })
}

t.test('what lets go of a source runs in the context of the request', async (t) => {
  for (const [name, source] of Object.entries(released)) {
    t.test(name, async (t) => {
      const noted = gate<string | undefined>()
      const opened = gate()
      const { url } = await watch(t, (app) => {
        app.addHook('onRequest', (request, _reply, done) => context.run(request.id, done))
        app.get('/', (_request, reply) =>
          reply.csv((of: SourceContext) => {
            opened.open()
            return (
              source(() => noted.open(context.getStore())) as (of: SourceContext) => AsyncIterable<object>
            )(of)
          })
        )
      })
      const request = get(url, { agent: false }).on('error', () => {})
      await opened.opened
      request.destroy()
      t.equal(await soon(noted.opened), 'req-1')
    })
  }
  for (const [name, source] of Object.entries(unopened)) {
    for (const method of ['HEAD', 'GET']) {
      t.test(`${name}, ${method}: it is not opened`, async (t) => {
        const noted = gate<string | undefined>()
        const { url } = await watch(t, (app) => {
          app.addHook('onRequest', (request, _reply, done) => context.run(request.id, done))
          app.addHook('onSend', async (request, _reply, payload) =>
            request.method === 'GET' ? 'other' : payload
          )
          app.get('/', (_request, reply) => reply.csv(source(() => noted.open(context.getStore()))))
        })
        await context.run('the test', () => fetch(url, { method }))
        t.equal(await soon(noted.opened), 'req-1')
      })
    }
  }
})

/** As one that waits for the reply ahead of it on its connection. */
t.test("the source of a pipelined export runs in its own request's context", async (t) => {
  const hooks: Record<string, (payload: Readable) => Readable> = {
    'sent as it is': (payload) => payload,
    'a hook pipes it': (payload) => payload.pipe(new PassThrough())
  }
  for (const [name, hook] of Object.entries(hooks)) {
    t.test(name, async (t) => {
      const { seen, note } = new Places()
      const asked = gate()
      const begins = { begin: () => note('the store'), put: () => {}, get: () => undefined }
      const server = await watch(
        t,
        (app) => {
          app.addHook('onRequest', (request, _reply, done) => context.run(request.id, done))
          app.addHook('onSend', async (_request, _reply, payload) => hook(payload as Readable))
          app.get('/first', (_request, reply) =>
            reply.csv(async function* () {
              await asked.opened
              yield { id: 1 }
            })
          )
          app.get('/second', (_request, reply) => {
            setImmediate(asked.open)
            return reply.csv(async function* () {
              note('the source')
              yield { id: 1 }
              await turn()
              note('the source, again')
            })
          })
        },
        { defaults: { maxConcurrent: 0, receipts: begins } }
      )
      const socket = connectSocket(Number(new URL(server.url).port), '127.0.0.1')
      socket.write('GET /first HTTP/1.1\r\nhost: a\r\n\r\nGET /second HTTP/1.1\r\nhost: a\r\n\r\n')
      t.match(await server.receipt(1), { status: 'complete', report: '/second' })
      socket.destroy()
      t.same(seen, { 'the source': 'req-2', 'the source, again': 'req-2', 'the store': 'req-2' })
    })
  }
})
