import { getHeapSpaceStatistics } from 'node:v8'
import Fastify from 'fastify'
import csvExport from '../../plugins/csv-export/index.ts'

/** Gives out small exports, each with as much beside it as is found at once; tells how large V8's old space is. */
const app = Fastify()
await app.register(csvExport)
app.get('/', (_request, reply) => {
  Object.assign(reply.raw, { load: new Array(2_000).fill(1) })
  return reply.csv([{ id: 1 }, { id: 2 }])
})
const url = await app.listen({ host: '127.0.0.1', port: 0 })
process.on('message', () => {
  const oldSpace = getHeapSpaceStatistics().find(({ space_name: name }) => name === 'old_space')
  process.send?.(oldSpace?.space_used_size)
})
process.send?.(url)
