import type { FastifyInstance } from 'fastify'
import { selectCargoes } from '../database/cargo-report.ts'
import { copyRows } from '../plugins/pg/index.ts'

const noParameters = { type: 'object', additionalProperties: false, properties: {} }

/** What is no report of its own: the whole table, encoded by the database. */
export default async function reports(app: FastifyInstance): Promise<void> {
  app.get('/reports/all-cargoes.csv', { schema: { querystring: noParameters } }, (_request, reply) =>
    reply.csv(({ signal }) => copyRows(app.pg.pool, selectCargoes({}).text, [], { signal }), {
      filename: 'all-cargoes.csv',
      encoded: true
    })
  )
}
