import swagger from '@fastify/swagger'
import Fastify from 'fastify'
import { Type } from 'typebox'
import csvExport, { columnsOf, csvResponse } from '../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'

const app = Fastify()
await app.register(swagger, { openapi: { info: { title: 'Shop', version: '1.0.0' } } })
await app.register(csvExport)

const Order = Type.Object({
  id: Type.Integer({ title: 'No.' }),
  total: Type.Number({ description: 'Net, in euros' }),
  when: Type.String({ format: 'date-time' }),
  customer: Type.Object({ name: Type.String({ title: 'Customer' }) })
})

async function* orders() {
  const when = new Date('2026-01-31T12:00:00Z')
  yield { id: 1, total: 9.5, when, customer: { name: 'Ana' } }
}

app.get('/orders.csv', { schema: { response: csvResponse(Order) } }, (_request, reply) =>
  reply.csv(orders(), { columns: columnsOf(Order) })
)

app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())

console.log(await app.listen({ port: Number(process.argv[2] ?? 3000) }))
