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
  const closing = new AbortController()
  // An endless reply would keep the server from ever closing.
  app.addHook('preClose', async () => closing.abort())

  app.get<{ Querystring: StreamedQuery }>(
    '/streamed',
    { schema: { querystring: querySchema } },
    (request, reply) => {
      const { sleep, lines, heartbeat } = request.query
      return reply.streamText(({ signal }) => elapsedTimes(sleep * 1000, lines, signal, closing.signal), {
        heartbeat: { every: heartbeat * 1000, text: '[waiting]\n' }
      })
    }
  )
}

async function* elapsedTimes(
  sleep: number,
  lines: number,
  clientGone: AbortSignal,
  closing: AbortSignal
): AsyncGenerator<string> {
  const start = performance.now()
  const signal = AbortSignal.any([clientGone, closing])
  for (let line = 1; lines === 0 || line <= lines; line++) {
    await wait(sleep, undefined, { signal }).catch(() => {})
    if (signal.aborted) break
    yield `line ${line} after ${((performance.now() - start) / 1000).toFixed(3)} s\n`
  }
  if (closing.aborted) yield '[the server is closing]\n'
}
