import fastifyPostgres from '@fastify/postgres'
import Fastify from 'fastify'
import csvExport from '../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'
import { cursorRows } from '../plugins/pg/index.ts' // yours: from 'fastify-csv-export/pg'

const app = Fastify({ logger: true })
await app.register(csvExport)
await app.register(fastifyPostgres, {
  connectionString: process.env.DATABASE_URL,
  connectionTimeoutMillis: 5_000
})
app.pg.pool.on('error', (error) => app.log.warn(error))

const text = 'SELECT number, origin FROM cargoes WHERE weight > $1 ORDER BY id'
app.get<{ Querystring: { weight: string } }>('/cargoes.csv', ({ query }, reply) =>
  reply.csv(({ signal }) => cursorRows(app.pg.pool, text, [query.weight], { signal }), {
    filename: 'cargoes.csv'
  })
)

await app.listen({ port: Number(process.argv[2] ?? 3000) })
