import { join } from 'node:path'
import { Readable } from 'node:stream'
import Fastify from 'fastify'
import t from 'tap'
import csvExport from '../../../../plugins/csv-export/index.ts'
import { temporaryFolder } from '../../../database.ts'
import { curl, serve } from '../../../helper.ts'

/** Enough to fill every buffer between the server and a client. */
const filler = 'x'.repeat(1000)

async function* failAfter(count: number): AsyncGenerator<[number, string]> {
  for (let number = 1; number <= count; number++) yield [number, filler]
  throw new Error('the database went away')
}

t.test('an error before the first byte is a normal error reply', async (t) => {
  const { url, log } = await serve(t, (app) => {
    app.addHook('onSend', async (_request, reply) => {
      reply.header('x-hook', 'ran')
    })
    app.get('/', (_request, reply) =>
      reply.header('content-encoding', 'identity').csv(failAfter(0), { header: false })
    )
    app.get('/open', (_request, reply) => reply.csv(() => Promise.reject(new Error('no connection'))))
    app.get('/status', (_request, reply) =>
      reply.csv(() => {
        throw Object.assign(new Error('busy'), { statusCode: 503 })
      })
    )
    app.get('/string', (_request, reply) =>
      reply.csv(
        // biome-ignore lint/correctness/useYield: a source that fails at once
        (async function* () {
          throw 'not an Error'
        })()
      )
    )
    app.get('/row', (_request, reply) => reply.csv(['a string'] as any))
    app.get('/array', (_request, reply) => reply.csv([['a', 'b']]))
    app.get('/returned', (_request, reply) => reply.csv((() => 7) as any))
  })
  const expected: [string, number, RegExp][] = [
    ['/', 500, /the database went away/],
    ['/open', 500, /no connection/],
    ['/status', 503, /busy/],
    ['/string', 500, /not an Error/],
    ['/row', 500, /CSV_EXPORT_INVALID_ROW.*row 1: .*got \\"a string\\"/],
    ['/array', 500, /CSV_EXPORT_INVALID_ROW.*row 1: an array has no column names/],
    ['/returned', 500, /CSV_EXPORT_INVALID_ROWS.*got 7/]
  ]
  for (const [path, status, pattern] of expected) {
    const response = await fetch(url + path)
    t.equal(response.status, status, path)
    t.equal(response.headers.get('content-type'), 'application/json; charset=utf-8')
    t.equal(response.headers.get('content-disposition'), null)
    t.equal(response.headers.get('content-encoding'), null)
    t.equal(response.headers.get('x-hook'), 'ran')
    t.match(await response.text(), pattern)
  }
  t.equal(log.lines.filter(({ err }) => err).length, expected.length, 'each is logged once')
})

t.test('no cache is to keep an error reply as long as the file', async (t) => {
  const { url } = await serve(t, (app) => {
    app.addHook('onSend', async (_request, reply) => {
      if (!reply.hasHeader('cache-control') && !reply.raw.hasHeader('cache-control'))
        reply.header('cache-control', 'public, max-age=300')
    })
    app.get('/hook', (_request, reply) => reply.csv(failAfter(0)))
    app.get('/route', (_request, reply) =>
      reply
        .headers({ 'cache-control': 'private, max-age=60', expires: 'Sat, 01 Jan 2050 00:00:00 GMT' })
        .header('last-modified', 'Sat, 01 Jan 2000 00:00:00 GMT')
        .csv(failAfter(0))
    )
    app.get('/raw', (_request, reply) => {
      reply.raw.setHeader('cache-control', 'public, max-age=60')
      return reply.csv(failAfter(0))
    })
  })
  for (const path of ['/hook', '/route', '/raw']) {
    const { status, headers } = await fetch(url + path)
    t.equal(status, 500)
    t.equal(headers.get('cache-control'), 'no-store', path)
    t.equal(headers.get('expires'), null)
    t.equal(headers.get('last-modified'), null)
  }
})

t.test('an error after the first byte breaks the connection', async (t) => {
  for (const rows of [1, 5000]) {
    for (const [version, code] of [
      ['--http1.0', 56],
      ['--http1.1', 56],
      ['--http2-prior-knowledge', 92]
    ] as const) {
      await t.test(`${version} after ${rows} rows`, async (t) => {
        const { url, log } = await serve(
          t,
          (app) => {
            app.get('/', (_request, reply) => {
              const source = failAfter(rows)
              return reply.csv(
                (async function* () {
                  yield [0, filler]
                  // The first row has gone out when the event loop has gone round.
                  while (!reply.raw.headersSent) await new Promise(setImmediate)
                  yield* source
                })(),
                { header: false }
              )
            })
          },
          { http2: version === '--http2-prior-knowledge' }
        )
        const { code: status, body } = await curl(version, url)
        t.equal(status, code, 'seen by the client')
        t.notMatch(body, /database|error/i, 'nothing is written into the data')
        const line = await log.find(/source_failed/)
        t.equal(line.level, 50)
        t.equal(line.export.rows, rows + 1)
        t.ok(line.export.bytes > 0)
        t.match(line.err, { message: 'the database went away' })
        t.ok(line.reqId)
        t.equal(log.lines.filter(({ level }) => level > 30).length, 1, 'it is logged once')
      })
    }
  }
})

t.test('a bad row says its number and lets go of the source', async (t) => {
  const bad: Record<string, unknown> = {
    string: 'text',
    null: null,
    number: 5,
    promise: Promise.resolve({}),
    date: { when: new Date(Number.NaN) },
    symbol: { a: Symbol('x') },
    circular: (() => {
      const row: any = { a: {} }
      row.a.self = row.a
      return row
    })()
  }
  let released = 0
  const { url } = await serve(t, (app) => {
    app.get<{ Params: { kind: string } }>('/:kind', (request, reply) => {
      const first = request.params.kind === 'date' ? { when: 1 } : { a: 1 }
      return reply.csv<any>(
        (function* () {
          try {
            yield first
            yield first
            yield bad[request.params.kind] as object
            yield first
          } finally {
            released++
          }
        })()
      )
    })
  })
  for (const kind of Object.keys(bad)) {
    const response = await fetch(`${url}/${kind}`)
    t.equal(response.status, 500, kind)
    const { code, message } = (await response.json()) as { code: string; message: string }
    t.equal(code, 'CSV_EXPORT_INVALID_ROW')
    t.match(message, /^row 3: /)
    if (kind === 'date') t.match(message, /column "when": an invalid Date/)
  }
  t.equal(released, Object.keys(bad).length)
})

t.test('the process outlives whatever a source does', async (t) => {
  const unhandled: unknown[] = []
  const keep = (error: unknown) => unhandled.push(error)
  process.on('unhandledRejection', keep).on('uncaughtException', keep)
  t.teardown(() => process.off('unhandledRejection', keep).off('uncaughtException', keep))
  const late = new Readable({ objectMode: true, read() {} })
  const sources: Record<string, () => any> = {
    'throws in finally': () =>
      (async function* () {
        try {
          yield { a: 1 }
          yield 'bad'
        } finally {
          // biome-ignore lint/correctness/noUnsafeFinally: what is tested
          throw new Error('in finally')
        }
      })(),
    'return() throws': () => ({
      [Symbol.iterator]: () => ({
        next: () => ({ done: false, value: 'bad' }),
        return() {
          throw new Error('in return')
        }
      })
    }),
    'next() throws': () => ({
      [Symbol.asyncIterator]: () => ({
        next() {
          throw new Error('in next')
        }
      })
    }),
    'a stream that fails': () =>
      new Readable({ objectMode: true, read: () => {} }).destroy(new Error('in stream')),
    'a stream that fails later': () => {
      setImmediate(() => late.destroy(new Error('in late stream')))
      return late
    }
  }
  const { url, log } = await serve(t, (app) => {
    app.get<{ Params: { kind: string } }>('/:kind', (request, reply) =>
      reply.csv<any>(sources[request.params.kind]?.() as any)
    )
    app.get('/wrong', (_request, reply) => {
      const stream = new Readable({ objectMode: true, read() {} })
      setImmediate(() => stream.destroy(new Error('after a wrong option')))
      return reply.csv(stream, { filename: 5 as any })
    })
  })
  for (const kind of Object.keys(sources)) {
    const response = await fetch(`${url}/${encodeURIComponent(kind)}`)
    t.equal(response.status, 500, kind)
    await response.text()
  }
  t.equal((await fetch(`${url}/wrong`)).status, 500)
  await log.find(/clean-up of a source failed/)
  await new Promise(setImmediate)
  t.same(unhandled, [])
  t.equal(log.lines.filter(({ msg }) => /clean-up/.test(msg)).length, 2)
})

t.test('a reply is sent once', async (t) => {
  let released = false
  const { url } = await serve(t, (app) => {
    app.get('/', async (_request, reply) => {
      reply.send('first')
      const rows = (function* () {
        yield { a: 1 }
      })()
      const original = rows.return.bind(rows)
      rows.return = (value) => {
        released = true
        return original(value)
      }
      t.throws(() => reply.csv(rows), { code: 'CSV_EXPORT_REPLY_SENT' })
      return reply
    })
  })
  t.equal(await (await fetch(url)).text(), 'first')
  t.ok(released, 'the rows that nobody will read are let go of')
})

t.test('a body destroyed from outside breaks visibly', async (t) => {
  const { url, log } = await serve(t, (app) => {
    app.addHook('onSend', async (_request, reply, payload) => {
      const body = payload as Readable
      const destroyLater = () => (reply.raw.headersSent ? body.destroy() : setImmediate(destroyLater))
      setImmediate(destroyLater)
      return payload
    })
    app.get('/', (_request, reply) =>
      reply.csv(
        (async function* () {
          yield [1]
          await new Promise(() => {})
        })(),
        { header: false }
      )
    )
  })
  t.equal((await curl(url)).code, 56)
  t.match(await log.find(/source_failed/), { err: { code: 'CSV_EXPORT_BODY_DESTROYED' } })
})

t.test('a body that a hook destroys before it is sent', async (t) => {
  const { url, app } = await serve(
    t,
    (app) => {
      app.addHook('onSend', async (request, _reply, payload) => {
        if (payload instanceof Readable) payload.destroy()
        return request.url === '/replaced' ? 'another' : payload
      })
      for (const path of ['/sent', '/replaced']) app.get(path, (_request, reply) => reply.csv([{ a: 1 }]))
    },
    { defaults: { maxConcurrent: 1 } }
  )
  for (let count = 0; count < 2; count++) {
    const sent = await fetch(`${url}/sent`)
    t.equal(sent.status, 500, 'no empty file')
    t.match(await sent.json(), { code: 'CSV_EXPORT_BODY_DESTROYED' })
    const replaced = await fetch(`${url}/replaced`)
    t.equal(replaced.status, 200)
    t.equal(await replaced.text(), 'another')
  }
  t.strictSame(app.csvExports.running(), [])
})

t.test('no rest of an export is given to a client that has a part of another', async (t) => {
  let started = false
  const { url } = await serve(t, (app) =>
    app.get('/', (_request, reply) =>
      reply.csv(() => {
        started = true
        return [{ a: 1 }]
      })
    )
  )
  for (const range of ['bytes=2-', 'bytes=-2', 'bytes=1-2', 'rows=1-']) {
    const response = await fetch(url, { headers: { range } })
    t.equal(response.status, 412, range)
    t.match(await response.json(), { code: 'CSV_EXPORT_RANGE' })
  }
  t.notOk(started)
  const whole = await fetch(url, { headers: { range: 'bytes=0-' } })
  t.equal(whole.status, 200)
  t.equal(await whole.text(), 'a\n1\n')
})

t.test('an error after the first byte is seen on a UNIX socket, which has no reset', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(csvExport, { closeGrace: 0 })
  app.get('/', (_request, reply) => reply.csv(failAfter(5000), { header: false }))
  const path = join(await temporaryFolder(t), 'socket')
  await app.listen({ path })
  t.equal((await curl('--unix-socket', path, 'http://localhost/')).code, 18, 'a missing end')
})
