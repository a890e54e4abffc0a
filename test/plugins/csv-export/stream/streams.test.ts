import { once } from 'node:events'
import { connect, constants, createServer, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { PassThrough, Readable, Writable } from 'node:stream'
import t from 'tap'
import type { CsvOptions, Receipt } from '../../../../plugins/csv-export/index.ts'
import { gate, serve } from '../../../helper.ts'

const rows = Array.from({ length: 40 }, (_, id) => ({ id }))
const csv = `id\n${rows.map(({ id }) => `${id}\n`).join('')}`

const stalled = () => new Writable({ objectMode: true, highWaterMark: 1, write: () => {} })
const web = () => ReadableStream.from(rows)

/** Streams of which rows are missing, or of which somebody else takes rows. */
const used: Record<string, () => unknown> = {
  'it flows to a listener': () => Readable.from(rows).on('data', () => {}),
  'it flows to nobody': () => Readable.from(rows).resume(),
  'it was piped': () => {
    const stream = Readable.from(rows)
    stream.pipe(new PassThrough({ objectMode: true }))
    return stream
  },
  'it was piped into what is full': async () => {
    const stream = Readable.from(rows)
    stream.pipe(stalled())
    await once(stream, 'pause')
    return stream
  },
  'it was read in part': async () => {
    const stream = Readable.from(rows)
    await once(stream, 'readable')
    stream.read()
    return stream
  },
  'it was iterated in part': async () => {
    const stream = Readable.from(rows)
    for await (const _row of stream.iterator({ destroyOnReturn: false })) break
    return stream
  },
  'somebody else waits for its first row': () => {
    const stream = new Readable({ objectMode: true, read: () => {} })
    stream[Symbol.asyncIterator]()
      .next()
      .catch(() => {})
    return stream
  },
  'it was paused half-way': async () => {
    const stream = Readable.from(rows)
    stream.on('data', () => stream.pause())
    await once(stream, 'pause')
    return stream
  },
  'it has ended': async () => {
    const stream = Readable.from(rows).resume()
    await once(stream, 'end')
    return stream
  },
  'it was destroyed': async () => {
    const stream = Readable.from(rows).destroy()
    await once(stream, 'close')
    return stream
  },
  'a web stream: it is locked': () => {
    const stream = web()
    stream.getReader()
    return stream
  },
  'a web stream: it was read in part': async () => {
    const stream = web()
    const reader = stream.getReader()
    await reader.read()
    reader.releaseLock()
    return stream
  },
  'a web stream: it was cancelled': async () => {
    const stream = web()
    await stream.cancel()
    return stream
  },
  'a web stream: it was teed': () => {
    const stream = web()
    stream.tee()
    return stream
  },
  'a web stream of another maker: it is locked': () => ({
    locked: true,
    getReader: () => {},
    [Symbol.asyncIterator]: () => rows.values()
  }),
  'of readable-stream 3: it flows': () => old({ readableFlowing: true }),
  'of readable-stream 3: it has ended': () => old({}, { endEmitted: true }),
  'of readable-stream 3: it was destroyed': () => old({}, { destroyed: true })
}

/** A stream as readable-stream 3 has them: it does not know whether it was read. */
function old(properties: object, state: object = {}) {
  return Object.assign(Object.create({ [Symbol.asyncIterator]: () => rows.values() }), {
    on() {},
    listenerCount: () => 0,
    readableFlowing: null,
    _readableState: Object.assign(state, { endEmitted: false, destroyed: false, ...state }),
    ...properties
  })
}

/** Streams that have all their rows. */
const unused: Record<string, () => unknown> = {
  'new one': () => Readable.from(rows),
  'paused one': () => Readable.from(rows).pause(),
  'paused one that had begun to flow': () => Readable.from(rows).resume().pause(),
  'one with data buffered': async () => {
    const stream = new PassThrough({ objectMode: true, highWaterMark: 100 })
    for (const row of rows) stream.write(row)
    stream.end()
    await new Promise(setImmediate)
    return stream
  },
  'paused one with data buffered': async () => {
    const stream = Readable.from(rows).pause()
    await once(stream, 'readable')
    return stream
  },
  'one that was unpiped again': () => {
    const stream = Readable.from(rows)
    const destination = new PassThrough({ objectMode: true })
    stream.pipe(destination)
    return stream.unpipe(destination)
  },
  'one that is piped into': () => Readable.from(rows).pipe(new PassThrough({ objectMode: true })),
  'web stream': web,
  'web stream that was locked': () => {
    const stream = web()
    stream.getReader().releaseLock()
    return stream
  },
  'one of readable-stream 3': () => old({}),
  'paused one of readable-stream 3': () => old({ readableFlowing: false }),
  'source with a flag of the same name': () =>
    Object.assign(rows.values(), { locked: true, readableFlowing: true })
}

const empty: Record<string, () => unknown> = {
  'ended unread': async () => {
    const stream = new Readable({ objectMode: true, read: () => {} })
    stream.push(null)
    await new Promise(setImmediate)
    return stream
  },
  'ended and flowed away': async () => {
    const stream = Readable.from([]).resume()
    await once(stream, 'close')
    return stream
  },
  'web stream': () => ReadableStream.from([])
}

const failed: Record<string, () => unknown> = {
  'before it was read': () => Readable.from(rows).destroy(new Error('its own')),
  'a while ago': async () => {
    const stream = Readable.from(rows).on('error', () => {})
    stream.destroy(new Error('its own'))
    await once(stream, 'close')
    return stream
  },
  'after it was read in part': async () => {
    const stream = Readable.from(rows).on('error', () => {})
    await once(stream, 'readable')
    stream.read()
    stream.destroy(new Error('its own'))
    await once(stream, 'close')
    return stream
  },
  'a web stream': () => new ReadableStream({ start: (controller) => controller.error(new Error('its own')) })
}

const ways = ['given', 'returned'] as const

/** A route that gives rows of each name, itself and as what a function returns. */
async function serveStreams(t: Parameters<typeof serve>[0], streams: typeof used) {
  const receipts: Receipt[] = []
  const made: Record<string, any> = {}
  const { url } = await serve(
    t,
    (app) => {
      app.get<{ Params: { name: string } }>('/given/:name', async ({ params: { name } }, reply) => {
        made[name] = await streams[name]?.()
        return reply.csv<any>(made[name])
      })
      app.get<{ Params: { name: string } }>('/returned/:name', async ({ params: { name } }, reply) =>
        reply.csv<any>(async () => (made[name] = (await streams[name]?.()) as any))
      )
    },
    { defaults: { onReceipt: (receipt) => receipts.push(receipt) } }
  )
  return {
    ask: (way: string, name: string) => fetch(`${url}/${way}/${encodeURIComponent(name)}`),
    receipts,
    made
  }
}

t.test('a stream of which rows would be missing is refused, and let go of', async (t) => {
  const { ask, receipts, made } = await serveStreams(t, used)
  for (const name of Object.keys(used)) {
    for (const way of ways) {
      const response = await ask(way, name)
      t.equal(response.status, 500)
      t.match(
        await response.json(),
        {
          code: 'CSV_EXPORT_SOURCE_USED',
          message:
            way === 'given'
              ? /^rows is a stream or iterator that .*give/
              : /^what the rows function returns is a stream or iterator that /
        },
        `${name}, ${way}`
      )
      if (made[name] instanceof Readable) t.ok(made[name].destroyed)
    }
  }
  t.notOk(receipts.some(({ status }) => status === 'complete'))
})

t.test('one that has all its rows is taken', async (t) => {
  const { ask } = await serveStreams(t, unused)
  for (const name of Object.keys(unused)) {
    for (const way of ways) t.equal(await (await ask(way, name)).text(), csv, `${name}, ${way}`)
  }
})

/** Who comes to a stream after it was given. */
const later: Record<string, (stream: Readable) => unknown> = {
  'a listener': (stream) => stream.on('data', () => {}),
  'a destination': (stream) => stream.pipe(new PassThrough({ objectMode: true })),
  'a destination that is full': (stream) => stream.pipe(stalled()),
  'a call of resume()': (stream) => stream.resume()
}

t.test('nobody who comes to it later takes a row away', async (t) => {
  const times: Record<string, (come: () => unknown) => unknown> = {
    'at once': (come) => come(),
    'in the next tick': (come) => process.nextTick(come),
    'in the next turn': (come) => setImmediate(come)
  }
  const { url } = await serve(t, (app) => {
    app.get<{ Params: { who: string; when: string } }>('/:who/:when', ({ params: { who, when } }, reply) => {
      const stream = Readable.from(rows)
      reply.csv(stream)
      times[when]?.(() => later[who]?.(stream))
    })
  })
  for (const who of Object.keys(later)) {
    for (const when of Object.keys(times)) {
      const response = await fetch(`${url}/${encodeURIComponent(who)}/${encodeURIComponent(when)}`)
      t.equal(await response.text(), csv, `${who}, ${when}`)
    }
  }
})

t.test('one that somebody else has come to while a hook waited is refused by its name', async (t) => {
  const { url } = await serve(t, (app) => {
    app.addHook('onSend', async () => new Promise<void>((resolve) => setImmediate(resolve)))
    app.get('/', (_request, reply) => {
      const stream = Readable.from(rows)
      reply.csv(stream)
      stream.resume()
    })
  })
  const error = await (await fetch(url)).json()
  t.match(error, { code: 'CSV_EXPORT_SOURCE_USED', message: /^rows is a stream / })
})

t.test('one of readable-stream 3 that is destroyed before its end is no whole file', async (t) => {
  const state = { endEmitted: false, destroyed: false }
  const destroyed = () =>
    old(
      {
        async *[Symbol.asyncIterator]() {
          yield* rows
          // Its own iterator says no more of it.
          state.destroyed = true
        }
      },
      state
    )
  const { ask, receipts } = await serveStreams(t, { destroyed })
  for (const way of ways) {
    Object.assign(state, { destroyed: false })
    t.match(await (await ask(way, 'destroyed')).json(), {
      code: 'CSV_EXPORT_SOURCE_FAILED',
      message: 'the source failed: its stream was cut off before its end'
    })
    t.match(receipts.pop(), { status: 'source_failed', errorCode: 'CSV_EXPORT_SOURCE_FAILED' }, way)
  }
})

t.test("nor is one that emits 'error' without an error", async (t) => {
  const failing = (error?: unknown) => () => {
    const stream = new Readable({ objectMode: true, read() {} })
    stream.push(rows[0])
    setTimeout(() => stream.emit('error', error), 50)
    return stream
  }
  const { ask, receipts } = await serveStreams(t, {
    undefined: failing(),
    null: failing(null),
    'an empty text': failing('')
  })
  for (const name of ['undefined', 'null', 'an empty text']) {
    for (const way of ways) {
      await t.rejects(
        ask(way, name).then((response) => response.text()),
        `${name}, ${way}`
      )
      t.match(receipts.pop(), { status: 'source_failed', errorCode: 'CSV_EXPORT_SOURCE_FAILED' })
    }
  }
})

t.test('nor one of HTTP/2 whose connection is closed', async (t) => {
  const upstream = createServer()
  upstream.on('stream', (stream: ServerHttp2Stream) => {
    stream.respond({ ':status': 200 })
    stream.write('id\n1\n')
    stream.on('error', () => {})
    setTimeout(() => stream.session?.destroy(), 50)
  })
  upstream.listen(0, '127.0.0.1')
  await once(upstream, 'listening')
  t.teardown(() => upstream.close())
  const { port } = upstream.address() as AddressInfo
  const client = connect(`http://127.0.0.1:${port}`).on('error', () => {})
  t.teardown(() => client.destroy())
  const { url, log } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.csv<any>(client.request({ ':path': '/' }), { encoded: true }))
  })
  await t.rejects(fetch(url).then((response) => response.text()))
  t.match(await log.find(/source_failed/), { export: { status: 'source_failed' } })
  // It may also fail with an error.
  const { ask } = await serveStreams(t, { reset: () => Object.assign(Readable.from(rows), { rstCode: 8 }) })
  for (const way of ways) t.equal((await ask(way, 'reset')).status, 500)
})

t.test('one of HTTP/2 that its owner resets when it has all of it is whole', async (t) => {
  const upstream = createServer().on('stream', (stream: ServerHttp2Stream) => {
    stream.respond()
    stream.end('id\n1\n')
  })
  upstream.listen(0, '127.0.0.1')
  await once(upstream, 'listening')
  t.teardown(() => upstream.close())
  const { port } = upstream.address() as AddressInfo
  const client = connect(`http://127.0.0.1:${port}`)
  t.teardown(() => client.close())
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) => {
      const stream = client.request({ ':path': '/' })
      stream.on('end', () => stream.close(constants.NGHTTP2_CANCEL))
      return reply.csv<any>(stream, { encoded: true })
    })
  })
  t.equal(await (await fetch(url)).text(), 'id\n1\n')
})

t.test('one that was empty is', async (t) => {
  const { ask, receipts } = await serveStreams(t, empty)
  for (const name of Object.keys(empty)) {
    for (const way of ways) {
      t.equal(await (await ask(way, name)).text(), '', `${name}, ${way}`)
      t.match(receipts.pop(), { status: 'complete', rows: 0 })
    }
  }
})

t.test('one that has failed gives its own error', async (t) => {
  const { ask } = await serveStreams(t, failed)
  for (const name of Object.keys(failed)) {
    for (const way of ways) {
      const response = await ask(way, name)
      t.equal(response.status, 500)
      t.match(await response.json(), { message: 'its own' }, `${name}, ${way}`)
    }
  }
})

t.test('batches, encoded rows and text', async (t) => {
  const calls: Record<string, CsvOptions> = { batches: { batches: true }, encoded: { encoded: true } }
  const { url } = await serve(t, (app) => {
    const flowing = () => Readable.from(['text']).resume()
    for (const [name, options] of Object.entries(calls)) {
      app.get(`/${name}`, (_request, reply) => reply.csv<any>(flowing(), options))
    }
    app.get('/text', (_request, reply) => reply.streamText(flowing()))
    app.post('/echo', (request, reply) => reply.streamText(request.raw))
  })
  for (const path of ['batches', 'encoded', 'text']) {
    t.match(await (await fetch(`${url}/${path}`)).json(), { code: 'CSV_EXPORT_SOURCE_USED' }, path)
  }
  const parsed = await fetch(`${url}/echo`, {
    method: 'POST',
    body: '{}',
    headers: { 'content-type': 'application/json' }
  })
  t.match(await parsed.json(), { code: 'CSV_EXPORT_SOURCE_USED' }, 'a request whose body Fastify has read')
})

t.test('a stream whose client has left while it was opened is only let go of', async (t) => {
  const opening = gate()
  const opened = gate<Readable>()
  const { url, log } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv<any>(async ({ signal }) => {
        opening.open()
        await once(signal, 'abort')
        const stream = new Readable({ read() {} }).resume()
        opened.open(stream)
        return stream
      })
    )
  })
  const client = new AbortController()
  const response = fetch(url, { signal: client.signal })
  await opening.opened
  client.abort()
  await t.rejects(response)
  const stream = await opened.opened
  const [error] = await once(stream, 'error')
  t.match(error, { code: 'CSV_EXPORT_CLIENT_GONE' })
  t.match(await log.find(/client_gone/), { export: { status: 'client_gone' } })
})
