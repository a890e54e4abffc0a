import type { Readable } from 'node:stream'
import type { FastifyReply, RouteShorthandOptions } from 'fastify'
import t from 'tap'
import type { Receipt } from '../../../../plugins/csv-export/index.ts'
import { type Internals, internals } from '../../../../plugins/csv-export/internals.ts'
import { ask, type Version } from '../../../attacks/wire.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { skipBefore } from '../../../programs.ts'

const lengths: Record<string, RouteShorthandOptions> = {
  'a hook that writes the head': {
    onSend: async (_request, { raw }, payload) => {
      raw.writeHead(200, { 'content-length': '5', 'content-type': 'text/csv' })
      return payload
    }
  },
  'what has wrapped writeHead(), as on-headers does': {
    onRequest: async (_request, { raw }) => {
      const write = raw.writeHead as (...head: unknown[]) => FastifyReply['raw']
      raw.writeHead = function (this: typeof raw, ...head: unknown[]) {
        raw.setHeader('content-length', 5)
        return write.apply(this, head)
      } as typeof raw.writeHead
    }
  }
}

for (const [what, route] of Object.entries(lengths)) {
  for (const version of ['--http1.0', '--http1.1', '--http2-prior-knowledge']) {
    t.test(`a file is not cut at a length that is set by ${what}: ${version}`, async (t) => {
      const { opened: receipt, open: onReceipt } = gate<Receipt>()
      const { url } = await serve(
        t,
        (app) => app.get('/', route, (_request, reply) => reply.csv([{ a: 1 }, { a: 2 }, { a: 3 }])),
        { http2: version.startsWith('--http2'), defaults: { onReceipt } }
      )
      t.not((await curl(version, '--max-time', '10', url)).code, 0)
      t.match(await receipt, { status: 'source_failed', errorCode: 'CSV_EXPORT_REPLY_SENT' })
    })
  }
}

for (const version of ['1.0', '1.1', '2'] as Version[]) {
  t.test(
    `a kept file with a trailer of the route has a length, and no chunks: HTTP/${version}`,
    { skip: skipBefore('5.12.8', 'trailers of a stream') },
    async (t) => {
      const { url } = await serve(
        t,
        (app) =>
          app.get('/', (_request, reply) => {
            const { sendFile } = (app as unknown as Record<symbol, Internals>)[internals] as Internals
            reply.trailer('x-own', async () => 'own')
            return sendFile(reply, [Buffer.from('a\n1\n')], {
              csv: {},
              report: '/',
              headers: {},
              rows: 1,
              length: 4
            })
          }),
        { http2: version === '2' }
      )
      const { head, body, end } = await ask(version, url, { te: 'trailers' })
      t.match(head, /^content-length: 4/im)
      t.notMatch(head, /^transfer-encoding/im)
      t.match({ body, end }, { body: 'a\n1\n', end: 'whole' })
    }
  )
}

t.test('what an error handler streams instead of a kept file is in chunks, as any stream', async (t) => {
  const { url } = await serve(t, (app) => {
    app.setErrorHandler((error: Error, _request, reply) => reply.csv([{ error: error.message }]))
    app.get('/', (_request, reply) => {
      const { sendFile } = (app as unknown as Record<symbol, Internals>)[internals] as Internals
      const failing = (): Promise<never> => Promise.reject(new Error('lost'))
      return sendFile(reply, failing, { csv: {}, report: '/', headers: {}, rows: 1, length: 4 })
    })
  })
  const { head, body, end } = await ask('1.1', url, {})
  t.match(head, /^transfer-encoding: chunked/im)
  t.match({ body, end }, { body: 'error\nlost\n', end: 'whole' })
})

t.test(
  'a length that a hook sets of what it has made of the body gives way to trailers',
  { skip: skipBefore('5.12.8', 'trailers of a stream') },
  async (t) => {
    const { url } = await serve(t, (app) => {
      app.addHook('onSend', async (_request, reply, payload) => {
        const chunks: Buffer[] = []
        for await (const chunk of payload as Readable) chunks.push(chunk)
        reply.header('content-length', Buffer.concat(chunks).length)
        return Buffer.concat(chunks)
      })
      app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
    })
    for (const te of ['trailers', '']) {
      const { head, body } = await ask('1.1', url, { te, connection: 'close' })
      t.equal(body, 'a\n1\n')
      t.equal(/^content-length: 4\r$/im.test(head), te === '')
    }
  }
)
