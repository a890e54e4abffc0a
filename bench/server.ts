import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Options, stringify } from 'csv-stringify'
import Fastify from 'fastify'
import csvExport from '../plugins/csv-export/index.ts'
import { mixedRows } from './rows.ts'

interface Query {
  Querystring: { rows: number }
}

/** The same output as the plugin's, so that both do the same work. */
const options: Options = {
  header: true,
  cast: { boolean: String, date: (value) => value.toISOString() }
}

const app = Fastify()
await app.register(csvExport)

app.get<Query>('/reply.csv', (request, reply) => reply.csv(mixedRows(Number(request.query.rows))))

app.get<Query>('/usual', async (request, reply) => {
  reply.hijack()
  reply.raw.writeHead(200, { 'content-type': 'text/csv' })
  await pipeline(Readable.from(mixedRows(Number(request.query.rows))), stringify(options), reply.raw)
})

app.get('/json', async () => ({ hello: 'world' }))

app.get('/peak', async () => ({ bytes: process.resourceUsage().maxRSS * 1024 }))

process.send?.(await app.listen({ host: '127.0.0.1', port: 0 }))
