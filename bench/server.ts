import Fastify from 'fastify'
import csvExport from '../plugins/csv-export/index.ts'
import { postgresWays } from './postgres-ways.ts'
import { addProbes } from './probes.ts'
import { type Shape, shapes } from './shapes.ts'
import { ways } from './ways.ts'

/** Every way as a route, so that each goes through the same Fastify. */

interface Export {
  Querystring: { way: string; shape: string; rows: string }
}

const app = Fastify()
await app.register(csvExport)
if (process.env.DATABASE_URL) await app.register(postgresWays, { url: process.env.DATABASE_URL })

app.get<Export>('/export', async (request, reply) => {
  const { way, shape, rows } = request.query
  await ways[way]?.(reply, shapes.find(({ name }) => name === shape) as Shape, Number(rows))
  return reply
})

addProbes(app)
console.log(await app.listen({ host: '127.0.0.1', port: 0 }))
