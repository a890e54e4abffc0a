import { randomBytes } from 'node:crypto'
import { subscribe } from 'node:diagnostics_channel'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import { cargoColumns } from '../database/cargoes.ts'
import postgres from '../database/postgres.ts'
import csvExport from '../plugins/csv-export/index.ts'
import { contentCodings } from '../plugins/csv-export/options/http.ts'
import { cursorRows } from '../plugins/pg/index.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as (options: object) => void
const [databaseUrl, maxConnections] = process.argv.slice(2)

/** Rows as those of the cargo report, each an object of its own. */
async function* cargoes(count: number): AsyncGenerator<Record<string, unknown>> {
  for (let row = 0; row < count; row++) {
    yield {
      number: '4711004711',
      commodity: 'Steel pipes, 6"',
      origin: 'San Fernando del Valle de Catamarca, AR',
      destination: 'Rotterdam, NL',
      weight: '12345.678',
      shipped_at: '2024-02-29 12:34:56.123456+00',
      delivered_on: '2024-03-31'
    }
  }
}

/** Hardly to be made smaller, as otherwise very many rows are coded before the kernel takes no more. */
const noises = Array.from({ length: 1_000 }, () => [randomBytes(750).toString('base64')])

async function* noise(count: number): AsyncGenerator<string[]> {
  for (let row = 0; row < count; row++) yield noises[row % noises.length] as string[]
}

interface Query {
  Querystring: { rows?: string }
}

const rowsOf = ({ rows = '10000000' }: Query['Querystring']): number => Number(rows)

const app = Fastify()
await app.register(csvExport, { columns: [...cargoColumns], stallTimeout: 0, compress: false })
app.get<Query>('/generator', ({ query }, reply) => reply.csv(cargoes(rowsOf(query))))
for (const coding of contentCodings) {
  app.get<Query>(`/${coding}`, ({ query }, reply) =>
    reply.csv(noise(rowsOf(query)), { columns: ['noise'], compress: [coding] })
  )
}
if (databaseUrl !== undefined) {
  await app.register(postgres, { url: databaseUrl, maxConnections: Number(maxConnections) })
  // The rows of the cargo report over and over, as one whole report fits into what the kernel buffers.
  const text = `SELECT ${cargoColumns} FROM cargoes, generate_series(1, $1::integer) ORDER BY id`
  app.get<Query>('/cursor', ({ query: { rows } }, reply) => {
    const statement = rows === undefined ? text : `${text} LIMIT ${Number(rows)}`
    return reply.csv(({ signal }) => cursorRows(app.pg.pool, statement, [1_000], { signal }))
  })
}

let writes = 0
subscribe('fastify-csv-export:progress', () => {
  writes++
})

/** Memory, once no export has written anything for a second. */
async function measure(): Promise<NodeJS.MemoryUsage> {
  for (let seen = -1; seen !== writes; ) {
    seen = writes
    await sleep(1_000)
  }
  for (let pass = 0; pass < 5; pass++) {
    collectGarbage({ type: 'major', execution: 'sync', flavor: 'last-resort' })
    await sleep(10)
  }
  return process.memoryUsage()
}

process.on('message', async () => process.send?.(await measure()))
process.send?.(await app.listen({ host: '127.0.0.1', port: 0, backlog: 1_000 }))
