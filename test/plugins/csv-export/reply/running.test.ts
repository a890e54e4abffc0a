import { once } from 'node:events'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { createGzip } from 'node:zlib'
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify'
import t, { type Test } from 'tap'
import csvExport, { type ExportProgress, type Receipt, toCsv } from '../../../../plugins/csv-export/index.ts'
import { listen, printed, startCurl } from '../../../clients.ts'
import { curl, gate, serve } from '../../../helper.ts'

const ended = { status: 'server_ended', errorCode: 'CSV_EXPORT_SERVER_ENDED' }

/** Gives a row, and waits: until it is let go on, or, as an honest source, until the export is over. */
function waiting(row: unknown[] = ['first']) {
  const { opened, open } = gate()
  return {
    finish: open,
    async *rows({ signal }: { signal: AbortSignal }) {
      yield row
      await Promise.race([opened, once(signal, 'abort')])
      yield ['last']
    }
  }
}

/** A server that keeps every receipt, with what its own code saw running when it was told. */
async function serveKept(
  t: Test,
  routes: (app: FastifyInstance) => unknown,
  { defaults, ...options }: Parameters<typeof serve>[2] = {}
) {
  const receipts: Receipt[] = []
  const left: unknown[] = []
  const told = gate()
  let app: FastifyInstance | undefined
  const server = await serve(t, routes, {
    ...options,
    defaults: {
      header: false,
      onReceipt(receipt) {
        receipts.push(receipt)
        left.push(...(app as FastifyInstance).csvExports.running())
        told.open()
      },
      ...defaults
    }
  })
  app = server.app
  return { ...server, exports: server.app.csvExports, receipts, left, told: told.opened }
}

const protocols: Record<string, string[]> = {
  'HTTP/1.0': ['--http1.0'],
  'HTTP/1.1': [],
  'HTTP/2': ['--http2-prior-knowledge']
}

for (const [protocol, args] of Object.entries(protocols)) {
  for (const coding of ['identity', 'gzip']) {
    t.test(`an operator ends a download, who sees a break: ${protocol}, ${coding}`, async (t) => {
      const { exports, url, log, receipts, left, told } = await serveKept(
        t,
        (app) => app.get('/', (_request, reply) => reply.csv(waiting().rows)),
        { http2: protocol === 'HTTP/2' }
      )
      t.same(exports.running(), [])
      const client = startCurl('--include', '--header', `accept-encoding: ${coding}`, ...args, url)
      const exit = once(client, 'exit')
      const head = await printed(client.stdout, /\r\n\r\n./s)
      client.stdout.resume()
      const id = /^export-id: (\S+)/im.exec(head)?.[1] as string
      const [running] = exports.running()
      t.strictSame(exports.running(), [
        { id, requestId: 'req-1', report: '/', startedAt: running?.startedAt, rows: 1, bytes: 6 }
      ])
      t.equal(exports.end('another'), false)
      t.equal(exports.end(id), true)
      t.same(exports.running(), [])
      t.equal(exports.end(id), false, 'once')
      t.not((await exit)[0], 0)
      await told
      t.match(receipts, [{ ...ended, ...running }])
      t.same(left, [])
      t.match(await log.find(/server_ended/), { level: 40 })
    })
  }
}

for (const http2 of [false, true]) {
  const args = http2 ? ['--http2-prior-knowledge'] : []
  const protocol = http2 ? 'HTTP/2' : 'HTTP/1.1'

  t.test(`one whose first row has not come is a coded error: ${protocol}`, async (t) => {
    for (const path of ['/opening', '/waiting', '/gzip', '/flowing']) {
      const asked = gate()
      const open = async function* ({ signal }: { signal: AbortSignal }) {
        asked.open()
        await once(signal, 'abort')
        yield []
      }
      const { exports, url, receipts, told } = await serveKept(
        t,
        (app) => {
          app.get('/waiting', (_request, reply) => reply.csv(open))
          app.get('/opening', (_request, reply) =>
            reply.csv(async ({ signal }) => {
              asked.open()
              await once(signal, 'abort')
              return []
            })
          )
          // The error reply passes through it, too.
          const hook = (make: (body: Readable) => unknown) => ({
            onSend: async (_request: unknown, _reply: unknown, payload: unknown) =>
              payload instanceof Readable ? make(payload) : payload
          })
          const gzip = hook((body) => body.pipe(createGzip()))
          const flow = hook((body) => body.on('data', () => {}))
          app.get('/gzip', gzip, (_request, reply) => reply.csv(open))
          app.get('/flowing', flow, (_request, reply) => reply.csv(open))
        },
        { http2 }
      )
      const answer = curl('--include', ...args, url + path)
      await asked.opened
      const [running] = exports.running()
      t.match(running, { report: path, rows: 0, bytes: 0 })
      t.equal(exports.end(running?.id as string), true, path)
      t.same(exports.running(), [])
      t.equal(exports.end(running?.id as string), false)
      const { code, body } = await answer
      t.equal(code, 0)
      t.match(body, /^HTTP\/\S+ 503 .*^retry-after: 10\r.*"code":"CSV_EXPORT_SERVER_ENDED"/ms, path)
      t.notMatch(body, 'content-disposition')
      t.ok(body.includes(`export-id: ${running?.id}`))
      await told
      t.match(receipts, [ended])
    }
  })
}

t.test('what does not run is not told of', async (t) => {
  const { rows } = waiting()
  const held = gate()
  const holding = gate()
  const { exports, url } = await serveKept(
    t,
    (app) => {
      app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
      app.get('/304', { onSend: async (_request, reply) => void reply.code(304) }, (_request, reply) =>
        reply.csv([{ a: 1 }])
      )
      app.get('/others', { onSend: async () => 'another body' }, (_request, reply) => reply.csv([{ a: 1 }]))
      const onSend = async (request: { id: string }, _reply: unknown, payload: unknown) => {
        t.same(app.csvExports.running(), [], 'a hook makes it wait')
        t.equal(app.csvExports.end(request.id), false)
        holding.open()
        await held.opened
        return payload
      }
      app.get('/held', { onSend }, (_request, reply) => reply.csv([{ a: 1 }]))
      app.get('/toCsv', async () => {
        const chunks = toCsv(rows, { header: false })
        await chunks.next()
        const running = app.csvExports.running()
        await chunks.return?.()
        return running
      })
    },
    { defaults: { genExportId: (request) => request.id } }
  )
  t.equal((await fetch(url, { method: 'HEAD' })).status, 200)
  t.same(exports.running(), [])
  t.equal((await fetch(`${url}/304`)).status, 304)
  t.equal(await (await fetch(`${url}/others`)).text(), 'another body')
  t.same(exports.running(), [])
  t.same(await (await fetch(`${url}/toCsv`)).json(), [])
  const answer = fetch(`${url}/held`)
  await holding.opened
  held.open()
  t.equal(await (await answer).text(), '1\n')
  t.same(exports.running(), [])
})

t.test('a pipelined export runs when its turn has come', async (t) => {
  const first = waiting(['of the first'])
  const second = waiting(['of the second'])
  const { exports, url } = await serveKept(t, (app) => {
    app.get('/first', (_request, reply) => reply.csv(first.rows))
    app.get('/second', (_request, reply) => reply.csv(second.rows))
  })
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port) })
  socket.on('error', () => {})
  socket.write(['/first', '/second'].map((path) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`).join(''))
  await printed(socket, /of the first/)
  t.match(exports.running(), [{ report: '/first' }])
  first.finish()
  await printed(socket, /of the second/)
  const running = exports.running()
  t.match(running, [{ report: '/second' }])
  t.equal(running.length, 1)
  const closed = new Promise((resolve) => socket.once('close', resolve))
  t.equal(exports.end(running[0]?.id as string), true)
  await closed
})

t.test('none stays after its end, whatever that is', async (t) => {
  const failing = async function* () {
    yield ['first']
    await turn()
    await turn()
    throw new Error('down')
  }
  const ends: Record<string, [status: string, handler: (reply: FastifyReply) => unknown]> = {
    '/complete': ['complete', (reply) => reply.csv([['a']])],
    '/text': ['complete', (reply) => reply.streamText(['a'])],
    '/early': ['source_failed', (reply) => reply.csv(() => Promise.reject(new Error('down')))],
    '/late': ['source_failed', (reply) => reply.csv(failing())],
    '/maxRows': ['limit_reached', (reply) => reply.csv([['a'], ['b']], { maxRows: 1 })],
    '/maxDuration': ['limit_reached', (reply) => reply.csv(waiting().rows, { maxDuration: 20 })],
    '/sourceTimeout': ['source_stalled', (reply) => reply.csv(waiting().rows, { sourceTimeout: 20 })],
    '/second': [
      'source_failed',
      (reply) => {
        reply.csv(waiting().rows)
        return turn().then(() => reply.send('another'))
      }
    ],
    '/destroyed': [
      'source_failed',
      (reply) => {
        reply.csv(waiting().rows)
        setImmediate(() => reply.raw.destroy())
        return reply
      }
    ],
    '/gone': ['client_gone', (reply) => reply.csv(waiting().rows)],
    '/stalled': [
      'client_stalled',
      (reply) =>
        reply.csv(
          (function* () {
            for (;;) yield ['x'.repeat(100_000)]
          })(),
          { stallTimeout: 100 }
        )
    ]
  }
  for (const http2 of [false, true]) {
    for (const [path, [status, handler]] of Object.entries(ends)) {
      const { app, exports, url, receipts, left, told } = await serveKept(
        t,
        (app) => app.get(path, (_request, reply) => handler(reply)),
        { http2, defaults: { compress: false } }
      )
      const client = startCurl('--include', ...(http2 ? ['--http2-prior-knowledge'] : []), url + path)
      client.stdout.on('error', () => {})
      if (path === '/gone') {
        await printed(client.stdout, /first/)
        client.kill()
      } else if (path !== '/stalled') client.stdout.resume()
      await told
      t.match(receipts, [{ status }], `${path}, HTTP/${http2 ? 2 : 1}`)
      t.same(left, [], 'nor when the receipt is told')
      t.same(exports.running(), [])
      t.equal(exports.end(receipts[0]?.id as string), false)
      client.kill()
      await app.close()
      t.equal(receipts.length, 1)
    }
  }
})

t.test('those that a closing server ends do not stay', async (t) => {
  const { app, exports, url, receipts, left } = await serveKept(t, (app) =>
    app.get('/', (_request, reply) => reply.csv(waiting().rows))
  )
  const response = await fetch(url)
  await app.close()
  await t.rejects(response.text())
  t.match(receipts, [{ status: 'server_closing' }])
  t.same([left, exports.running()], [[], []])
  t.equal(exports.end(receipts[0]?.id as string), false)
})

t.test('one of inject() can be ended', async (t) => {
  const { app, exports, receipts } = await serveKept(t, (app) =>
    app.get('/', (_request, reply) =>
      reply.csv(
        (async function* () {
          yield ['first']
          await turn()
          await turn()
          for (const { id } of app.csvExports.running()) app.csvExports.end(id)
          yield ['last']
        })()
      )
    )
  )
  await t.rejects(app.inject('/'))
  t.match(receipts, [ended])
  t.same(exports.running(), [])
})

t.test('ids that repeat are told of, and ended, together', async (t) => {
  const { exports, url, receipts } = await serveKept(
    t,
    (app) => app.get('/', (_request, reply) => reply.csv(waiting().rows)),
    { defaults: { genExportId: () => 'the same' } }
  )
  const downloads = await Promise.all([fetch(url), fetch(url)])
  t.match(exports.running(), [{ id: 'the same' }, { id: 'the same' }])
  t.equal(exports.end('the same'), true)
  t.equal(exports.end('the same'), false)
  for (const download of downloads) await t.rejects(download.text())
  t.match(receipts, [ended, ended])
})

t.test('each registration has its own, which the contexts below share', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const routes = (context: FastifyInstance) => {
    context.get('/', (_request, reply) => reply.csv(waiting().rows))
    context.get('/running', async () => context.csvExports.running())
    context.delete<{ Params: { id: string } }>('/:id', async ({ params }) =>
      context.csvExports.end(params.id)
    )
  }
  const options = { closeGrace: 0, header: false }
  await app.register(csvExport, options)
  const own = async (context: FastifyInstance) => {
    await context.register(csvExport, options)
    routes(context)
  }
  await app.register(own, { prefix: '/a' })
  await app.register(own, { prefix: '/b' })
  await app.register(async (context) => routes(context), { prefix: '/above' })
  const url = await listen(app)
  const running = async (prefix: string) =>
    (await (await fetch(`${url}${prefix}/running`)).json()) as ExportProgress[]
  const prefixes = ['/a', '/b', '/above']
  for (const prefix of prefixes) {
    const download = await fetch(url + prefix)
    const id = (await running(prefix))[0]?.id
    for (const other of prefixes) {
      t.equal((await running(other)).length, other === prefix ? 1 : 0, `${prefix} seen by ${other}`)
      if (other !== prefix) t.equal(await end(other, id), false)
    }
    t.same(app.csvExports.running(), prefix === '/above' ? await running(prefix) : [])
    t.equal(await end(prefix, id), true)
    await t.rejects(download.text())
    t.same(await running(prefix), [])
  }

  async function end(prefix: string, id: string | undefined): Promise<unknown> {
    return (await fetch(`${url}${prefix}/${id}`, { method: 'DELETE' })).json()
  }
})
