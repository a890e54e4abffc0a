import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import express from '@fastify/express'
import type { FastifyInstance } from 'fastify'
import { pausing } from './pace.ts'
import { say } from './say.ts'

const row = { id: 1 }

/** Some MiB, at once, after the head has gone. */
async function* late(): AsyncGenerator<{ id: number }> {
  await setTimeout(50)
  for (let id = 1; id <= 20_000; id++) yield { id }
}

export default async function (app: FastifyInstance): Promise<void> {
  await app.register(express)
  app.get('/whole', (_request, reply) => reply.csv(pausing()))
  app.get('/early', (_request, reply) => reply.csv(() => Promise.reject(new Error('early'))))
  app.get('/late', (_request, reply) =>
    reply.csv(async function* () {
      yield row
      await setTimeout(20)
      throw new Error('late')
    })
  )
  // Without columns nothing but the head is known by then.
  app.get('/committed', (_request, reply) => reply.csv(late(), { commitAfter: 1 }))
  app.get('/timeout', { handlerTimeout: 50 }, (_request, reply) =>
    reply.csv(async function* ({ signal }) {
      await once(signal, 'abort')
      yield row
    })
  )
  app.get('/late-timeout', { handlerTimeout: 50 }, (_request, reply) =>
    reply.csv(async function* ({ signal }) {
      yield row
      await once(signal, 'abort')
    })
  )
  const limits = { maxRows: 1, maxDuration: 50, sourceTimeout: 50, maxBytes: 5 }
  for (const [limit, value] of Object.entries(limits)) {
    app.get(`/${limit}`, (_request, reply) =>
      reply.csv(
        async function* ({ signal }) {
          yield row
          await setTimeout(20)
          yield row
          if (!signal.aborted) await once(signal, 'abort')
        },
        { [limit]: value }
      )
    )
  }
  app.get('/closing', (request, reply) =>
    reply.csv(async function* ({ signal }) {
      yield row
      await setTimeout(20)
      app.close().then(() => say({ id: String(request.headers['x-export']), what: 'closed' }))
      if (!signal.aborted) await once(signal, 'abort')
    })
  )
}
