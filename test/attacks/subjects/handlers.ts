import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { pausing } from './pace.ts'

const failing = () => {
  throw Object.assign(new Error('asked for'), { code: 'ASKED', statusCode: 418 })
}

async function* late(): AsyncGenerator<{ id: number }> {
  yield { id: 1 }
  await setTimeout(20)
  throw Object.assign(new Error('late'), { code: 'LATE' })
}

/** An export before the one that is attacked, with an id of its own. */
function first<T>({ headers }: FastifyRequest, send: () => T): T {
  const id = headers['x-export']
  headers['x-export'] = `${id}-first`
  const sent = send()
  headers['x-export'] = id
  return sent
}

/** Where a reply begins that an error handler gives. */
export const places: Record<string, (app: FastifyInstance, send: (reply: FastifyReply) => unknown) => void> =
  {
    'the handler of an error': (app, send) => {
      app.get('/', { errorHandler: (_error, _request, reply) => send(reply), handler: failing })
    },
    'the handler of an error of an export': (app, send) => {
      app.get('/', {
        errorHandler: (_error, _request, reply) => send(reply),
        handler: (request, reply) => first(request, () => reply.csv(() => failing()))
      })
    },
    'the handler of an error of an export with trailers': (app, send) => {
      app.get('/', {
        errorHandler: (_error, _request, reply) => send(reply),
        handler: (request, reply) =>
          first(request, () => reply.trailer('x-own', async () => 'own').csv(() => failing()))
      })
    },
    'the handler of an error of a hook': (app, send) => {
      app.get('/', {
        onRequest: async () => failing(),
        errorHandler: (_error, _request, reply) => send(reply),
        handler: failing
      })
    },
    'the handler of what is not found': (app, send) => {
      app.setNotFoundHandler((_request, reply) => send(reply))
    },
    'a hook': (app, send) => {
      app.get('/', { preHandler: async (_request, reply) => send(reply), handler: failing })
    }
  }

export default async function (app: FastifyInstance): Promise<void> {
  for (const [index, place] of Object.values(places).entries()) {
    await app.register(async (app) => place(app, (reply) => reply.csv(pausing())), {
      prefix: `/whole/${index}`
    })
    await app.register(async (app) => place(app, (reply) => reply.csv(late())), { prefix: `/late/${index}` })
  }
}
