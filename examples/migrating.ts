import { Readable } from 'node:stream'
import { Transform } from '@json2csv/node'
import { stringify } from 'csv-stringify'
import { format } from 'fast-csv'
import Fastify from 'fastify'
import Papa from 'papaparse'
import csvExport from '../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'

const app = Fastify()
await app.register(csvExport)

async function* orders() {
  const at = new Date('2026-01-31T12:00:00Z')
  yield { id: 1, text: 'a "b"', paid: true, at, lines: [{ sku: 'x' }], note: null, empty: '', last: 1 }
  yield { id: 2, text: 'one\ntwo', paid: false, at, lines: [], note: undefined, empty: ' ', last: 1.5 }
}

app.get('/orders.csv', (_request, reply) => reply.csv(orders(), { filename: 'orders.csv' }))

app.get('/csv-stringify/before', (_request, reply) => {
  reply.hijack()
  reply.raw.writeHead(200, { 'content-type': 'text/csv' })
  Readable.from(orders())
    .pipe(stringify({ header: true }))
    .pipe(reply.raw)
})

app.get('/csv-stringify/after', (_request, reply) =>
  reply.csv(orders(), {
    cast: { boolean: (value) => (value ? '1' : ''), date: (value) => String(value.getTime()) }
  })
)

app.get('/fast-csv/before', (_request, reply) => {
  const csv = format({ headers: true })
  Readable.from(orders()).pipe(csv)
  return reply.type('text/csv').send(csv)
})

app.get('/fast-csv/after', (_request, reply) =>
  reply.csv(orders(), { eof: false, cast: { date: String, object: String } })
)

app.get('/json2csv/before', (_request, reply) => {
  const csv = Readable.from(orders()).pipe(new Transform({}, {}, { objectMode: true }))
  return reply.type('text/csv').send(csv)
})

const json = (value: unknown) => ({ value: JSON.stringify(value), quoted: true })
const text = (value: Date) => ({ value: value.toISOString(), quoted: true })
app.get('/json2csv/after', (_request, reply) =>
  reply.csv(orders(), { eof: false, quotedString: true, cast: { date: text, object: json } })
)

app.get('/papaparse/before', async (_request, reply) => {
  const rows = []
  for await (const order of orders()) rows.push(order)
  return reply.type('text/csv').send(Papa.unparse(rows))
})

app.get('/papaparse/after', (_request, reply) =>
  reply.csv(orders(), {
    recordDelimiter: 'windows',
    eof: false,
    quotedMatch: /^ | $/,
    cast: { object: String }
  })
)

console.log(await app.listen({ port: Number(process.argv[2] ?? 3000) }))
