import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

export const rowCount = 20_000
/** What `/whole.csv` sends, some 600 kB. */
export const whole = `id,text\n${Array.from({ length: rowCount }, (_, id) => `${id},"the text of ""${id}"""\n`).join('')}`

async function* rows() {
  for (let id = 0; id < rowCount; id++) {
    // A source that waits, so that what is there is sent.
    if (id % 5_000 === 1) await setTimeout(10)
    yield { id, text: `the text of "${id}"` }
  }
}

/** Routes for the three ends of an export. */
export function exports(app: FastifyInstance): void {
  app.get('/whole.csv', (_request, reply) => reply.csv(rows(), { filename: 'whole.csv' }))
  app.get('/early.csv', (_request, reply) =>
    // biome-ignore lint/correctness/useYield: it fails before
    reply.csv(async function* () {
      await setTimeout(10)
      throw Object.assign(new Error('no such report'), { statusCode: 404 })
    })
  )
  app.get('/late.csv', (_request, reply) =>
    reply.csv(async function* () {
      yield { id: 1 }
      // The row goes with the head. @fastify/express says of none that it has gone.
      for (let waited = 0; waited < 200 && !reply.raw.headersSent; waited += 5) await setTimeout(5)
      await setTimeout(20)
      throw new Error('late')
    })
  )
}
