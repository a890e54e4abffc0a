import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

const columns = ['One', 'Two', 'Three']

interface DownloadQuery {
  rows: number
  delay: number
}

export default async function downloads(app: FastifyInstance): Promise<void> {
  app.get<{ Querystring: DownloadQuery }>(
    '/download_csv_streaming',
    { schema: { querystring: querySchema(100_000_000) } },
    (request, reply) => {
      const { rows, delay } = request.query
      return reply.csv(({ signal }) => sampleRows(rows, delay, signal), { filename: 'download.csv', columns })
    }
  )
}

async function* sampleRows(
  count: number,
  delay: number,
  signal: AbortSignal
): AsyncGenerator<[string, string, number]> {
  for (let number = 0; number < count; number++) {
    if (delay > 0) await sleep(delay, undefined, { signal })
    yield ['Hello', 'world', number]
  }
}

function querySchema(maximum: number) {
  return {
    type: 'object',
    additionalProperties: false,
    properties: {
      rows: { type: 'integer', minimum: 0, maximum, default: 100 },
      delay: { type: 'integer', minimum: 0, maximum: 60_000, default: 0 }
    }
  }
}
