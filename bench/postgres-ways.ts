import { pipeline } from 'node:stream/promises'
import { stringify } from 'csv-stringify'
import type { FastifyInstance } from 'fastify'
import QueryStream from 'pg-query-stream'
import postgres from '../database/postgres.ts'
import { mixed } from './shapes.ts'
import { stringifyOptions } from './ways.ts'

const query = 'SELECT * FROM rows'
const columns = Object.keys(mixed.row(0))

/** The rows of a table, read and sent in each way. */
export async function postgresWays(app: FastifyInstance, { url }: { url: string }): Promise<void> {
  app.register(postgres, { url })

  app.get('/cursor', (_request, reply) =>
    reply.csv(({ signal }) => app.postgres.batches(query, [], { signal }), { batches: true, columns })
  )

  app.get('/query-stream', async (_request, reply) => {
    const { client, release } = await app.postgres.lend()
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/csv; charset=utf-8' })
    // Its own default of 100 rows makes it slower.
    const rows = client.query(new QueryStream(query, [], { batchSize: 500 }))
    await pipeline(rows, stringify(stringifyOptions), reply.raw)
    release()
  })

  app.get('/copy', (_request, reply) =>
    reply.csv(({ signal }) => app.postgres.copy(query, { signal }), { encoded: true })
  )
}
