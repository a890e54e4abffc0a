import { pipeline } from 'node:stream/promises'
import { stringify } from 'csv-stringify'
import type { FastifyInstance } from 'fastify'
import QueryStream from 'pg-query-stream'
import postgres from '../database/postgres.ts'
import { copyRows, cursorRows } from '../plugins/pg/index.ts'
import { mixed } from './shapes.ts'
import { stringifyOptions } from './ways.ts'

const query = 'SELECT * FROM rows'
const columns = Object.keys(mixed.row(0))

/** The rows of a table, read and sent in each way. */
export async function postgresWays(app: FastifyInstance, { url }: { url: string }): Promise<void> {
  app.register(postgres, { url })

  app.get('/cursor', (_request, reply) =>
    reply.csv(({ signal }) => cursorRows(app.pg.pool, query, [], { signal }), { columns })
  )

  app.get('/query-stream', async (_request, reply) => {
    const client = await app.pg.connect()
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/csv; charset=utf-8' })
    // Its own default of 100 rows makes it slower.
    const rows = client.query(new QueryStream(query, [], { batchSize: 500 }))
    await pipeline(rows, stringify(stringifyOptions), reply.raw)
    client.release()
  })

  app.get('/copy', (_request, reply) =>
    reply.csv(({ signal }) => copyRows(app.pg.pool, query, [], { signal }), { encoded: true })
  )
}
