import Fastify from 'fastify'
import csvExport from '../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'

const app = Fastify()
await app.register(csvExport)

async function* users() {
  for (let id = 1; id <= 3; id++) yield { id, name: `User "${id}"` }
}

app.get('/users.csv', (_request, reply) =>
  reply.csv(users(), { filename: 'users.csv', columns: ['id', { key: 'name', header: 'Full name' }] })
)

console.log(await app.listen({ port: Number(process.argv[2] ?? 3000) }))
