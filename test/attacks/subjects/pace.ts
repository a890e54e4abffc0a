import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/** Rows of which the later ones come when the server has long sent the earlier ones. */
export async function* pausing(): AsyncGenerator<{ id: number }> {
  yield { id: 1 }
  await setTimeout(20)
  yield { id: 2 }
}

/** Enough for a coder to give out something before the end. */
export function* many(): Generator<{ id: number; text: string }> {
  for (let id = 1; id <= 20_000; id++) yield { id, text: `${(id * 7919) % 10_007}` }
}

/** Exports at each pace at which a reply can begin. */
export function addPaces(app: FastifyInstance): void {
  app.get('/pausing', (_request, reply) => reply.csv(pausing()))
  app.get('/coded', (_request, reply) => reply.csv(many()))
  app.get('/empty', (_request, reply) => reply.csv([], { header: false }))
  app.get('/committed', (_request, reply) =>
    reply.csv(
      async function* () {
        await setTimeout(50)
        yield* pausing()
      },
      { columns: ['id'], commitAfter: 1 }
    )
  )
}
