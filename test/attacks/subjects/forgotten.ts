import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import compress from '@fastify/compress'
import type { FastifyInstance, FastifyReply } from 'fastify'

async function* rows(): AsyncGenerator<{ id: number }> {
  await setTimeout(20)
  yield { id: 1 }
}

const failing = () => {
  throw Object.assign(new Error('asked for'), { statusCode: 418 })
}

/** Plugins and hooks that a forgotten `return` meets. */
const others: Record<string, (app: FastifyInstance) => unknown> = {
  alone: () => {},
  'a pipe of onSend': (app) =>
    app.addHook('onSend', async (_request, _reply, payload) =>
      payload instanceof Readable ? payload.pipe(new PassThrough()) : payload
    ),
  'a tee of onSend': (app) =>
    app.addHook('onSend', async (_request, _reply, payload) => {
      if (payload instanceof Readable) payload.pipe(new PassThrough()).resume()
      return payload
    }),
  'an onSend that waits': (app) =>
    app.addHook('onSend', async (_request, _reply, payload) => {
      await setTimeout(5)
      return payload
    }),
  '@fastify/compress': (app) => app.register(compress)
}

export const names = Object.keys(others)

/** Handlers that forget it, by their paths. */
const handlers: Record<string, (reply: FastifyReply) => Promise<unknown>> = {
  rows: async (reply) => {
    reply.csv(rows())
  },
  'rows-at-once': async (reply) => {
    reply.csv([{ id: 1 }])
  },
  'rows-of-function': async (reply) => {
    reply.csv(() => rows())
  },
  text: async (reply) => {
    reply.streamText(
      (async function* () {
        yield 'text'
      })()
    )
  },
  'after-await': async (reply) => {
    await setTimeout(5)
    reply.csv(rows())
  },
  'before-await': async (reply) => {
    reply.csv(rows())
    await setTimeout(5)
  },
  endless: async (reply) => {
    reply.csv(async function* ({ signal }) {
      if (!signal.aborted) await once(signal, 'abort')
      yield { id: 1 }
    })
  },
  twice: async (reply) => {
    reply.csv(rows())
    reply.csv(rows())
  }
}

export const paths = Object.keys(handlers)

export default async function (app: FastifyInstance): Promise<void> {
  for (const [index, name] of names.entries()) {
    await app.register(
      async (app) => {
        await others[name]?.(app)
        for (const [path, handler] of Object.entries(handlers)) {
          app.get(`/${path}`, (_request, reply) => handler(reply))
        }
        app.get('/in-error-handler', {
          errorHandler: async (_error, _request, reply) => {
            reply.csv(rows())
          },
          handler: failing
        })
        app.get('/in-prehandler', {
          preHandler: async (_request, reply) => {
            reply.csv(rows())
          },
          handler: async () => undefined
        })
      },
      { prefix: `/${index}` }
    )
  }
}
