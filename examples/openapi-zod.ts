import swagger from '@fastify/swagger'
import Fastify from 'fastify'
import {
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider
} from 'fastify-type-provider-zod'
import { z } from 'zod'
import csvExport, { columnsOf, csvResponse } from '../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'

const app = Fastify().withTypeProvider<ZodTypeProvider>()
app.setValidatorCompiler(validatorCompiler)
app.setSerializerCompiler(serializerCompiler)
await app.register(swagger, {
  openapi: { info: { title: 'Shop', version: '1.0.0' } },
  transform: jsonSchemaTransform
})
await app.register(csvExport)

async function* orders() {
  const when = new Date('2026-01-31T12:00:00Z')
  yield { id: 1, total: 9.5, when, customer: { name: 'Ana' } }
}

const Order = z.object({
  id: z.int().meta({ title: 'No.' }),
  total: z.number().meta({ description: 'Net, in euros' }),
  when: z.date(),
  customer: z.object({ name: z.string().meta({ title: 'Customer' }) })
})

app.get('/orders.csv', { schema: { response: csvResponse(Order, { zod: z }) } }, (_request, reply) =>
  reply.csv(orders(), { columns: columnsOf(Order) })
)

app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())

console.log(await app.listen({ port: Number(process.argv[2] ?? 3000) }))
