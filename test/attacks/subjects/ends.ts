import { once } from 'node:events'
import type { ServerHttp2Stream } from 'node:http2'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { PluginOptions } from '../../../plugins/csv-export/index.ts'
import { say } from './say.ts'

interface Running {
  app: FastifyInstance
  request: FastifyRequest
  reply: FastifyReply
}

/** What ends a reply or its connection while the body runs, and is not the client. */
export const ends: Record<string, (running: Running) => unknown> = {
  'raw.destroy()': ({ reply }) => reply.raw.destroy(),
  'raw.destroy(error)': ({ reply }) => reply.raw.destroy(new Error('ended')),
  'raw.end()': ({ reply }) => reply.raw.end(),
  'raw.end(text)': ({ reply }) => reply.raw.end('the end\n'),
  'request.raw.destroy()': ({ request }) => request.raw.destroy(),
  'request.raw.destroy(error)': ({ request }) =>
    request.raw.on('error', () => {}).destroy(new Error('ended')),
  'closeIdleConnections(), then raw.destroy()': ({ app, reply }) => {
    app.server.closeIdleConnections?.()
    reply.raw.destroy()
  }
}

export const endsOfHttp1: typeof ends = {
  'socket.end()': ({ request }) => request.socket.end(),
  'socket.end(text)': ({ request }) => request.socket.end('the end\n'),
  'socket.destroy()': ({ request }) => request.socket.destroy(),
  'socket.destroy(error)': ({ request }) => request.socket.destroy(new Error('ended')),
  'socket.destroySoon()': ({ request }) => request.socket.destroySoon(),
  'socket.resetAndDestroy()': ({ request }) => request.socket.resetAndDestroy(),
  'closeAllConnections()': ({ app }) => app.server.closeAllConnections(),
  'socket.setTimeout()': ({ request }) => request.socket.setTimeout(20),
  'raw.setTimeout()': ({ reply }) => reply.raw.setTimeout(20),
  'request.raw.setTimeout()': ({ request }) => request.raw.setTimeout(20),
  'server.setTimeout()': ({ app, request }) => {
    app.server.setTimeout(20)
    request.socket.setTimeout(20)
    // It is of all connections to come.
    request.socket.once('close', () => app.server.setTimeout(0))
  },
  'raw.end() after raw.write()': ({ reply }) => {
    reply.raw.write('the end\n')
    reply.raw.end()
  }
}

const streamOf = (reply: FastifyReply) => (reply.raw as unknown as { stream: ServerHttp2Stream }).stream

export const endsOfHttp2: typeof ends = {
  'stream.close()': ({ reply }) => streamOf(reply).close(),
  'stream.close(CANCEL)': ({ reply }) => streamOf(reply).close(8),
  'stream.destroy()': ({ reply }) => streamOf(reply).destroy(),
  'stream.destroy(error)': ({ reply }) => streamOf(reply).destroy(new Error('ended')),
  'stream.end()': ({ reply }) => streamOf(reply).end(),
  'session.destroy()': ({ reply }) => streamOf(reply).session?.destroy(),
  'session.destroy(error)': ({ reply }) => streamOf(reply).session?.destroy(new Error('ended'))
}

const all = { ...ends, ...endsOfHttp1, ...endsOfHttp2 }

/** Handlers that do not give Fastify the reply. `wait` resolves when the body runs, or has not begun. */
export const handlers: Record<
  string,
  (running: Running, csv: () => FastifyReply, wait: () => Promise<void>) => unknown
> = {
  throws: async (_running, csv, wait) => {
    csv()
    await wait()
    throw Object.assign(new Error('thrown'), { code: 'THROWN' })
  },
  'throws undefined': async (_running, csv, wait) => {
    csv()
    await wait()
    throw undefined
  },
  'returns text': async (_running, csv, wait) => {
    csv()
    await wait()
    return 'another'
  },
  'returns an object': async (_running, csv, wait) => {
    csv()
    await wait()
    return { another: true }
  },
  'returns null': async (_running, csv, wait) => {
    csv()
    await wait()
    return null
  },
  'sends another': async ({ reply }, csv, wait) => {
    csv()
    await wait()
    reply.send('another')
    return reply
  },
  'sends an error': async ({ reply }, csv, wait) => {
    csv()
    await wait()
    reply.send(Object.assign(new Error('thrown'), { code: 'THROWN' }))
    return reply
  },
  'ends raw': async ({ reply }, csv, wait) => {
    csv()
    await wait()
    reply.raw.end()
    return reply
  },
  'waits for an audit that rejects': async (_running, csv, wait) => {
    const audit = async () => {
      await wait()
      throw Object.assign(new Error('thrown'), { code: 'THROWN' })
    }
    await Promise.all([csv(), audit()])
  },
  'returns an audit that rejects': (_running, csv, wait) => {
    csv()
    return wait().then(() => Promise.reject(Object.assign(new Error('thrown'), { code: 'THROWN' })))
  }
}

export const defaults: PluginOptions = { stallTimeout: 1_000 }

export default function (app: FastifyInstance): void {
  /** A body that says when it runs: before its first byte, or after it. */
  const prepare = (request: FastifyRequest, reply: FastifyReply, isLate: boolean) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const tell = (what: string) => say({ id: String(request.headers['x-export']), what })
    const csv = () =>
      reply.csv(async function* ({ signal }) {
        if (isLate) yield { id: 1 }
        // Time for what has been yielded to be sent.
        await setTimeout(20)
        resolve()
        if (!signal.aborted) await once(signal, 'abort')
        tell('let go')
      })
    return { csv, wait: () => promise }
  }
  app.get<{ Querystring: { end: string; late: string } }>('/end', (request, reply) => {
    const { csv, wait } = prepare(request, reply, request.query.late === 'true')
    wait()
      .then(() => all[request.query.end]?.({ app, request, reply }))
      .catch(() => {})
    return csv()
  })
  app.get<{ Querystring: { handler: string; late: string } }>('/handler', (request, reply) => {
    const { csv, wait } = prepare(request, reply, request.query.late === 'true')
    return handlers[request.query.handler]?.({ app, request, reply }, csv, wait)
  })
}
