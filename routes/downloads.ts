import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import createError from '@fastify/error'
import { create as contentDisposition } from 'content-disposition'
import { stringify } from 'csv-stringify/sync'
import type { FastifyInstance, FastifyReply } from 'fastify'

type Row = [string, string, number]

const columns = ['One', 'Two', 'Three']
const filename = 'download.csv'
/** Rows made into text at once: other requests wait no longer than for these. */
const batchSize = 1000

const CLIENT_GONE = createError('CLIENT_GONE', 'the client left before the file was built', 499)

interface DownloadQuery {
  rows: number
  delay: number
}

export default async function downloads(app: FastifyInstance): Promise<void> {
  app.get<{ Querystring: DownloadQuery }>(
    '/download_csv',
    { schema: { querystring: querySchema(1_000_000) } },
    async (request, reply) => {
      const { rows, delay } = request.query
      const signal = clientGone(reply)
      const file = await buildFile(rows, delay, signal).catch((error) => {
        throw signal.aborted ? new CLIENT_GONE() : error
      })
      return reply
        .type('text/csv; charset=utf-8; header=present')
        .header('content-disposition', contentDisposition(filename))
        .send(file)
    }
  )

  app.get<{ Querystring: DownloadQuery }>(
    '/download_csv_streaming',
    { schema: { querystring: querySchema(100_000_000) } },
    (request, reply) => {
      const { rows, delay } = request.query
      return reply.csv(({ signal }) => sampleRows(rows, delay, signal), { filename, columns })
    }
  )
}

/** The whole file in memory: what reply.csv() spares a server. */
async function buildFile(rows: number, delay: number, signal: AbortSignal): Promise<string> {
  const parts: string[] = []
  let batch: Row[] = []
  const stringifyBatch = () => {
    parts.push(stringify(batch, { header: parts.length === 0, columns }))
    batch = []
  }
  for await (const row of sampleRows(rows, delay, signal)) {
    if (batch.push(row) < batchSize) continue
    stringifyBatch()
    await turn()
    signal.throwIfAborted()
  }
  stringifyBatch()
  return parts.join('')
}

async function* sampleRows(count: number, delay: number, signal: AbortSignal): AsyncGenerator<Row> {
  for (let number = 0; number < count; number++) {
    if (delay > 0) await sleep(delay, undefined, { signal })
    yield ['Hello', 'world', number]
  }
}

/** Fires when the connection closes before the reply has been sent. */
function clientGone(reply: FastifyReply): AbortSignal {
  const controller = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableEnded) controller.abort()
  })
  return controller.signal
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
