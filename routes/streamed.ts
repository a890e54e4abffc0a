import { setTimeout as wait } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

interface StreamedQuery {
  sleep: number
  lines: number
  heartbeat: number
}

const querySchema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    sleep: { type: 'number', minimum: 0.001, maximum: 86_400, default: 1 },
    lines: { type: 'integer', minimum: 0, maximum: 1_000_000, default: 10 },
    // Half of the 30 s after which the strictest of the usual proxies gives up.
    heartbeat: { type: 'number', minimum: 0.01, maximum: 86_400, default: 15 }
  }
}

export default async function streamed(app: FastifyInstance): Promise<void> {
  app.get<{ Querystring: StreamedQuery }>(
    '/streamed',
    { schema: { querystring: querySchema } },
    (request, reply) => {
      const { sleep, lines, heartbeat } = request.query
      return reply.streamText(({ signal }) => elapsedTimes(sleep * 1000, lines, signal), {
        heartbeat: { every: heartbeat * 1000, text: '[waiting]\n' },
        // The client itself says how long it wants to wait.
        sourceTimeout: 0
      })
    }
  )
}

async function* elapsedTimes(sleep: number, lines: number, signal: AbortSignal): AsyncGenerator<string> {
  const start = performance.now()
  for (let line = 1; lines === 0 || line <= lines; line++) {
    await wait(sleep, undefined, { signal })
    yield `line ${line} after ${((performance.now() - start) / 1000).toFixed(3)} s\n`
  }
}
