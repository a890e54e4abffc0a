import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { addPaces, pausing } from './pace.ts'

export default function (app: FastifyInstance): void {
  addPaces(app)
  app.get('/flushed', (_request, reply) =>
    reply.csv(
      async function* () {
        await setTimeout(50)
        yield* pausing()
      },
      { commitAfter: 1 }
    )
  )
  app.get('/heartbeat', (_request, reply) =>
    reply.streamText(
      async function* () {
        await setTimeout(50)
        yield 'id\n1\n2\n'
      },
      { heartbeat: { every: 10, text: '\n' } }
    )
  )
  app.get('/announced', (_request, reply) => reply.header('trailer', 'x-own').csv(pausing()))
  app.get('/own', (_request, reply) => reply.trailer('x-own', async () => 'own').csv(pausing()))
}
