import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { connect } from 'node:http2'
import { brotliDecompressSync, createGunzip, gunzipSync, zstdDecompressSync } from 'node:zlib'
import compress from '@fastify/compress'
import t from 'tap'
import { fetch } from 'undici'
import type { Receipt } from '../../../../plugins/csv-export/index.ts'
import { until } from '../../../clients.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { skipBefore } from '../../../programs.ts'

const decoders = { gzip: gunzipSync, br: brotliDecompressSync, zstd: zstdDecompressSync }
const rows = Array.from({ length: 20_000 }, (_, id) => ({ id, name: `Crème "${id}"` }))
const csv = `id,name\n${rows.map(({ id }) => `${id},"Crème ""${id}"""\n`).join('')}`
const sha256 = (bytes: Buffer | string, encoding: 'hex' | 'base64') =>
  createHash('sha256').update(bytes).digest(encoding)

/** The body as it is on the wire. */
function read(url: string, headers = {}): Promise<IncomingMessage & { body: Buffer }> {
  return new Promise((resolve, reject) => {
    get(url, { agent: false, headers }, async (response) => {
      try {
        const chunks: Buffer[] = []
        for await (const chunk of response) chunks.push(chunk)
        resolve(Object.assign(response, { body: Buffer.concat(chunks) }))
      } catch (error) {
        reject(error)
      }
    }).on('error', reject)
  })
}

async function* failing() {
  yield* rows
  await new Promise(setImmediate)
  throw new Error('late')
}

t.test('the coding is negotiated', async (t) => {
  const receipts: Receipt[] = []
  const { url } = await serve(
    t,
    (app) => {
      app.get('/', (_request, reply) => reply.csv(rows, { digest: true }))
      app.get('/off', (_request, reply) => reply.csv(rows, { compress: false }))
      app.get('/gzip', (_request, reply) => reply.csv(rows, { compress: ['gzip'] }))
      app.get('/own', (_request, reply) => reply.header('content-encoding', 'identity').csv(rows))
      app.get('/no-transform', (_request, reply) =>
        reply.header('cache-control', 'private, no-transform').csv(rows)
      )
      app.get('/vary', (_request, reply) => reply.header('vary', 'origin').csv(rows))
      app.get('/text', (_request, reply) => reply.streamText([csv]))
      app.get('/small', (_request, reply) => reply.csv([{ a: 1 }]))
      app.get('/empty', (_request, reply) => reply.csv([]))
    },
    { defaults: { onReceipt: (receipt) => receipts.push(receipt) } }
  )
  const cases = [
    ['/', 'gzip', 'gzip'],
    ['/', 'br', 'br'],
    ['/', 'zstd', 'zstd'],
    ['/', 'gzip, deflate, br, zstd', 'zstd'],
    ['/', 'gzip;q=1, br;q=0.5, zstd;q=0', 'gzip'],
    ['/', 'identity, gzip;q=0.5', undefined],
    ['/', 'deflate', undefined],
    ['/', 'GZIP', 'gzip'],
    ['/', 'Gzip;Q=0.5, BR;q=0.7', 'br'],
    ['/', 'GZip, ZSTD;Q=0', 'gzip'],
    ['/', 'x-gzip', 'gzip'],
    ['/', 'X-GZip;q=0.5, br;q=0.1', 'gzip'],
    ['/', 'x-gzip;q=0', undefined],
    ['/', 'identity;q=0', undefined],
    ['/', 'IDENTITY, gzip;q=0.5', undefined],
    ['/', 'identity;q=0, gzip;q=0.1', 'gzip'],
    ['/', 'identity;q=0.5, gzip;q=0.1', undefined],
    ['/', 'gzip;q=0.001', 'gzip'],
    ['/', 'gzip;q=0', undefined],
    ['/', '*', 'zstd'],
    ['/', '*;q=0', undefined],
    ['/', '*;q=0, br', 'br'],
    ['/', 'identity, *;q=0', undefined],
    ['/', '', undefined],
    ['/', ' ,, gzip ;\tq=1.000 ,', 'gzip'],
    ['/', 'gzip;q=high', undefined],
    ['/', 'gzip;q=0.1.2, br;q=7', undefined],
    ['/', 'notgzip, gzip2', undefined],
    ['/', undefined, undefined],
    ['/gzip', 'gzip, zstd', 'gzip'],
    ['/off', 'gzip', undefined],
    ['/own', 'gzip', 'identity'],
    ['/no-transform', 'gzip', undefined],
    ['/text', 'gzip', undefined]
  ] as const
  for (const [path, accepted, coding] of cases) {
    const { headers, body } = await read(url + path, accepted && { 'accept-encoding': accepted })
    t.equal(headers['content-encoding'], coding, `${path} ${accepted}`)
    const decode = (decoders as Record<string, typeof gunzipSync | undefined>)[String(coding)]
    t.equal(String(decode ? decode(body) : body), csv)
    const receipt = receipts.pop() as Receipt
    t.match(receipt, {
      status: 'complete',
      bytes: Buffer.byteLength(csv),
      contentCoding: decode ? coding : null,
      sentBytes: body.length
    })
    if (path === '/') t.equal(receipt.sha256, sha256(csv, 'hex'), 'the digest is of the CSV')
    if (['/', '/gzip'].includes(path)) t.equal(headers.vary, 'accept-encoding')
    if (['/off', '/text'].includes(path)) t.notOk(headers.vary)
  }
  const gzip = { 'accept-encoding': 'gzip' }
  t.equal((await read(`${url}/vary`, gzip)).headers.vary, 'origin, accept-encoding')
  t.match(await read(`${url}/small`, gzip), {
    headers: { 'content-encoding': undefined },
    body: Buffer.from('a\n1\n')
  })
  t.match(await read(`${url}/empty`, gzip), {
    headers: { 'content-encoding': undefined },
    body: Buffer.from('')
  })
})

t.test('a coding that is refused is not used, even if any other is welcome', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.csv(rows))
  })
  for (const accepted of ['*, zstd;q=0', 'zstd; q=0.000, *', '*, ZSTD;q=0', 'zStd;Q=0, *']) {
    const { headers } = await read(url, { 'accept-encoding': accepted })
    t.equal(headers['content-encoding'], 'br', accepted)
  }
})

t.test('a small body is coded only for a client that takes no other', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
    app.get('/empty', (_request, reply) => reply.csv([]))
  })
  const cases = [
    ['gzip', undefined],
    ['gzip, *;q=0.5', undefined],
    ['gzip, identity;q=0', 'gzip'],
    ['br, *;q=0', 'br'],
    ['*;q=0', undefined]
  ] as const
  for (const [accepted, coding] of cases) {
    const { headers, body } = await read(url, { 'accept-encoding': accepted })
    t.equal(headers['content-encoding'], coding, accepted)
    t.equal(String(coding ? decoders[coding](body) : body), 'a\n1\n')
  }
  const { headers, body } = await read(`${url}/empty`, { 'accept-encoding': 'gzip, identity;q=0' })
  t.equal(headers['content-encoding'], undefined)
  t.equal(body.length, 0)
})

t.test('a part of a representation, or what must not be changed, is not coded', async (t) => {
  const range = `bytes 0-${Buffer.byteLength(csv) - 1}/*`
  const { url } = await serve(t, (app) => {
    app.get('/206', (_request, reply) => reply.code(206).csv(rows))
    app.get('/range', (_request, reply) => reply.header('content-range', range).csv(rows))
    app.get('/raw', (_request, reply) => {
      reply.raw.setHeader('Content-Range', range)
      return reply.csv(rows)
    })
    app.get('/206/hook', { onSend: async (_request, reply) => void reply.code(206) }, (_request, reply) =>
      reply.csv(rows)
    )
    app.get(
      '/range/hook',
      { onSend: async (_request, reply) => void reply.header('Content-Range', range) },
      (_request, reply) => reply.csv(rows)
    )
    app.get(
      '/raw/hook',
      { onSend: async (_request, reply) => void reply.raw.setHeader('content-range', range) },
      (_request, reply) => reply.csv(rows)
    )
    app.get(
      '/no-transform/hook',
      { onSend: async (_request, reply) => void reply.header('cache-control', 'No-Transform') },
      (_request, reply) => reply.csv(rows)
    )
    app.get('/while-waiting', (_request, reply) =>
      reply.csv(async function* () {
        await new Promise(setImmediate)
        reply.raw.statusCode = 206
        yield* rows
      })
    )
  })
  for (const path of ['/206', '/range', '/raw', '/206/hook', '/range/hook', '/raw/hook', '/while-waiting']) {
    const { statusCode, headers, body } = await read(url + path, { 'accept-encoding': 'gzip' })
    t.ok(statusCode === 206 || headers['content-range'] === range, path)
    t.equal(headers['content-encoding'], undefined, path)
    t.equal(String(body), csv)
  }
  const { headers, body } = await read(`${url}/no-transform/hook`, { 'accept-encoding': 'gzip' })
  t.equal(headers['content-encoding'], undefined)
  t.equal(String(body), csv)
})

const withoutTrailers = skipBefore('5.12.8', 'trailers of a stream')
t.test('the digest of a trailer is that of the bytes on the wire', { skip: withoutTrailers }, async (t) => {
  const { url } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv(rows)))
  for (const coding of ['gzip', 'br', 'zstd']) {
    const { body, trailers } = await read(url, { 'accept-encoding': coding, te: 'trailers' })
    t.equal(trailers['repr-digest'], `sha-256=:${sha256(body, 'base64')}:`, coding)
    t.equal(trailers['export-rows'], '20000')
  }
})

t.test('a row that is yielded before a pause can be decoded at once', async (t) => {
  for (const coding of ['gzip', 'br', 'zstd'] as const) {
    const second = gate()
    const { url } = await serve(t, (app) =>
      app.get('/', (_request, reply) =>
        reply.csv(async function* () {
          yield { a: 'first' }
          await second.opened
          yield { a: 'second' }
        })
      )
    )
    const reader = (await fetch(url, { headers: { 'accept-encoding': coding } })).body?.getReader()
    t.equal(Buffer.from((await reader?.read())?.value as Uint8Array).toString(), 'a\nfirst\n', coding)
    second.open()
    t.equal(Buffer.from((await reader?.read())?.value as Uint8Array).toString(), 'second\n')
    t.ok((await reader?.read())?.done)
  }
})

t.test('a source that fails', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/late', (_request, reply) => reply.csv(failing()))
    app.get('/early', (_request, reply) =>
      reply.csv(async () => {
        throw new Error('early')
      })
    )
    app.get('/hook', { onSend: () => Promise.reject(new Error('no')) }, (_request, reply) => reply.csv(rows))
  })
  t.equal((await curl('--compressed', `${url}/late`)).code, 56)
  t.equal((await curl('--http1.0', '--compressed', `${url}/late`)).code, 56)
  for (const path of ['/early', '/hook']) {
    const { statusCode, headers, body } = await read(url + path, { 'accept-encoding': 'gzip' })
    t.equal(statusCode, 500)
    t.notOk(headers['content-encoding'])
    t.match(JSON.parse(String(body)), { statusCode: 500 })
  }
})

t.test('a client that leaves or stalls', async (t) => {
  const receipts = gate<Receipt>()
  const released = gate()
  const { url } = await serve(t, (app) =>
    app.get('/', (_request, reply) =>
      reply.csv(
        (async function* () {
          try {
            // Noise, so that little of it has to be coded before the connection is full.
            for (;;) yield { noise: randomBytes(50_000).toString('base64') }
          } finally {
            released.open()
          }
        })(),
        { stallTimeout: 100, onReceipt: receipts.open }
      )
    )
  )
  const response = await new Promise<IncomingMessage>((resolve) => {
    // The reset that ends it is told to whichever of the two is there.
    get(url, { agent: false, headers: { 'accept-encoding': 'gzip' } }, resolve).on('error', () => {})
  })
  response.on('error', () => {})
  response.pause()
  t.match(await receipts.opened, { status: 'client_stalled', contentCoding: 'gzip' })
  await released.opened
})

t.test('what has been coded when the connection has gone is not counted as sent', async (t) => {
  const { opened: receipt, open: onReceipt } = gate<Receipt>()
  const { url } = await serve(
    t,
    (app) =>
      app.get('/', (_request, reply) =>
        reply.csv(
          async function* () {
            yield ['x']
            await until(() => reply.raw.headersSent)
            reply.raw.destroy()
            // A chunk: it is coded in another thread, and the connection is closed before it comes from there.
            yield [randomBytes(100_000).toString('hex')]
          },
          { header: false, compress: ['gzip'] }
        )
      ),
    { defaults: { onReceipt } }
  )
  await t.rejects(read(url, { 'accept-encoding': 'gzip' }))
  const { status, sentBytes } = await receipt
  t.equal(status, 'source_failed')
  t.ok(sentBytes < 100, `${sentBytes} bytes`)
})

t.test('HTTP/2', async (t) => {
  const { url } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv(rows)), { http2: true })
  const session = connect(url)
  const stream = session.request({ ':path': '/', 'accept-encoding': 'gzip' })
  const [headers] = await once(stream, 'response')
  t.equal(headers['content-encoding'], 'gzip')
  const chunks: Buffer[] = []
  for await (const chunk of stream.pipe(createGunzip())) chunks.push(chunk)
  t.equal(String(Buffer.concat(chunks)), csv)
  session.close()
})

t.test('beside @fastify/compress exactly one of them codes the body', async (t) => {
  const { url } = await serve(t, async (app) => {
    await app.register(compress, { threshold: 0 })
    app.get('/', (_request, reply) => reply.csv(rows))
    app.get('/off', (_request, reply) => reply.csv(rows, { compress: false }))
    app.get('/early', (_request, reply) =>
      reply.csv(async () => {
        throw new Error('early')
      })
    )
  })
  const ours = await read(url, { 'accept-encoding': 'gzip' })
  t.equal(ours.headers['content-encoding'], 'gzip')
  t.equal(String(gunzipSync(ours.body)), csv)
  const theirs = await read(`${url}/off`, { 'accept-encoding': 'gzip' })
  t.equal(theirs.headers['content-encoding'], 'gzip')
  t.equal(String(gunzipSync(theirs.body)), csv)
  const deflate = await read(url, { 'accept-encoding': 'deflate' })
  t.equal(deflate.headers['content-encoding'], 'deflate', 'one that only they have')
  const early = await read(`${url}/early`, { 'accept-encoding': 'gzip' })
  t.equal(early.statusCode, 500)
  const body = early.headers['content-encoding'] === 'gzip' ? gunzipSync(early.body) : early.body
  t.match(JSON.parse(String(body)), { message: 'early' })
})

t.test('a body whose head somebody else has sent meanwhile is as that head says', async (t) => {
  const { url } = await serve(t, (app) =>
    app.get('/', (_request, reply) =>
      reply.csv(
        async function* () {
          yield { text: 'small' }
          reply.raw.flushHeaders()
          yield { text: 'x'.repeat(5_000) }
        },
        { compress: ['gzip'] }
      )
    )
  )
  const { body } = await curl('-i', '-H', 'Accept-Encoding: gzip', url)
  t.notMatch(body, /^content-encoding:/im)
  t.match(body, /text\nsmall\nx{5000}\n$/)
})
