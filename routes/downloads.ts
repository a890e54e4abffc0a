import { Readable } from 'node:stream'
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

interface Download {
  Querystring: DownloadQuery
}

interface DownloadQuery {
  rows: number
  delay: number
}

export default async function downloads(app: FastifyInstance): Promise<void> {
  app.get<Download>('/download_csv', takesRows(1_000_000), async ({ method, query }, reply) => {
    // Not built for its head alone: a stream is what Fastify then gives no length.
    const file = method === 'HEAD' ? Readable.from([]) : await buildFile(query, clientGone(reply))
    return reply
      .type('text/csv; charset=utf-8; header=present')
      .header('content-disposition', contentDisposition(filename))
      .send(file)
  })

  app.get<Download>('/download_csv_streaming', takesRows(100_000_000), ({ query }, reply) =>
    // Every row through csv-stringify: the quicker encoder, which is the default, would take over after the first.
    reply.csv(({ signal }) => sampleRows(query, signal), { filename, columns, encoder: 'csv-stringify' })
  )
}

async function* sampleRows({ rows, delay }: DownloadQuery, signal: AbortSignal): AsyncGenerator<Row> {
  for (let number = 0; number < rows; number++) {
    if (delay > 0) await sleep(delay, undefined, { signal })
    yield ['Hello', 'world', number]
  }
}

/** The whole file in memory: what reply.csv() spares a server. */
async function buildFile(query: DownloadQuery, signal: AbortSignal): Promise<string> {
  const parts: string[] = []
  let batch: Row[] = []
  const stringifyBatch = () => {
    parts.push(stringify(batch, { header: parts.length === 0, columns }))
    batch = []
  }
  try {
    for await (const row of sampleRows(query, signal)) {
      if (batch.push(row) < batchSize) continue
      stringifyBatch()
      await turn()
      signal.throwIfAborted()
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : error
  }
  stringifyBatch()
  return parts.join('')
}

/** Fires when the connection closes before the reply has been sent. */
function clientGone(reply: FastifyReply): AbortSignal {
  const controller = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableEnded) controller.abort(new CLIENT_GONE())
  })
  return controller.signal
}

function takesRows(maximum: number) {
  const querystring = {
    type: 'object',
    additionalProperties: false,
    properties: {
      rows: { type: 'integer', minimum: 0, maximum, default: 100 },
      delay: { type: 'integer', minimum: 0, maximum: 60_000, default: 0 }
    }
  }
  return { schema: { querystring } }
}
