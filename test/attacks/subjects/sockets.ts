import { once } from 'node:events'
import { Socket } from 'node:net'
import { PassThrough, type Readable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { PluginOptions } from '../../../plugins/csv-export/index.ts'
import { hooks } from './hooks.ts'
import { say } from './say.ts'

export const server = {
  requestTimeout: 300,
  http: { headersTimeout: 200, connectionsCheckingInterval: 20 },
  maxParamLength: 100
}

export const defaults: PluginOptions = { maxConcurrent: 3, stallTimeout: 150 }

export default function (app: FastifyInstance): void {
  const name = (headers: Record<string, unknown>) => String(headers['x-export'])
  // It is read by nobody: its reply may begin before it has been sent.
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))

  app.addHook<Readable, { Querystring: { hook?: string } }>('onSend', async (request, _reply, payload) => {
    const hook = hooks[String(request.query.hook)]
    return hook === undefined || typeof payload === 'string' ? payload : hook(payload, request)
  })

  // The body runs until the client has done what it does, and a little longer.
  app.route({
    method: ['GET', 'POST'],
    url: '/running',
    handler: (_request, reply) =>
      reply.csv(async function* ({ signal }) {
        yield { id: 1 }
        await setTimeout(600, undefined, { signal }).catch(() => {})
        yield { id: 2 }
      })
  })
  app.get('/plain', async () => 'plain')
  for (const method of ['end', 'destroy'] as const) {
    app.get(`/${method}s-its-socket`, (request, reply) =>
      reply.csv(async function* ({ signal }) {
        yield { id: 1 }
        await setTimeout(20)
        request.socket[method]()
        if (!signal.aborted) await once(signal, 'abort')
      })
    )
  }
  app.get<{ Querystring: { method: 'end' | 'destroy' } }>('/ended-before-its-turn', (request, reply) => {
    setTimeout(50).then(() => reply.raw[request.query.method]())
    return reply.csv([{ id: 1 }])
  })
  app.get('/socket', async ({ socket }, { raw }) => {
    // Its turn.
    if (raw.socket === null) await once(raw, 'socket')
    return { isHeld: socket.end !== Socket.prototype.end }
  })
  app.get('/slow', async () => {
    await setTimeout(400)
    return 'slow'
  })
  app.get('/slow-export', (_request, reply) =>
    reply.csv(async function* () {
      yield { id: 1 }
      await setTimeout(400)
      yield { id: 2 }
    })
  )
  function* many() {
    for (let id = 1; id <= 20_000; id++) yield { id }
  }
  app.get('/export', (_request, reply) => reply.csv(many()))
  app.get('/hooked-export', {
    onSend: async (_request, _reply, payload) => (payload as NodeJS.ReadableStream).pipe(new PassThrough()),
    handler: (_request, reply) => reply.csv(many())
  })
  app.get('/late', (_request, reply) =>
    reply.csv(async function* () {
      yield { id: 1 }
      await setTimeout(30)
      throw Object.assign(new Error('late'), { code: 'LATE' })
    })
  )
  app.get('/early', (_request, reply) =>
    reply.csv(() => {
      throw Object.assign(new Error('early'), { code: 'EARLY' })
    })
  )
  app.get('/limited', (_request, reply) =>
    reply.csv(
      async function* ({ signal }) {
        yield { id: 1 }
        if (!signal.aborted) await once(signal, 'abort')
      },
      { maxDuration: 100 }
    )
  )
  app.get('/until-left', (request, reply) =>
    reply.csv(async function* ({ signal }) {
      yield { id: 1 }
      say({ id: name(request.headers), what: 'running' })
      if (!signal.aborted) await once(signal, 'abort')
    })
  )
  app.get('/short-after-half-close', (request, reply) =>
    reply.csv(async function* () {
      yield { id: 1 }
      say({ id: name(request.headers), what: 'running' })
      await setTimeout(150)
      yield { id: 2 }
    })
  )
}
