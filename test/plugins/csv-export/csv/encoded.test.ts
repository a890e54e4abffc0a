import { createHash } from 'node:crypto'
import { stringify } from 'csv-stringify/sync'
import fc from 'fast-check'
import t from 'tap'
import { EncodedRows } from '../../../../plugins/csv-export/csv/ready-text.ts'
import type { Receipt } from '../../../../plugins/csv-export/index.ts'
import { curl, serve } from '../../../helper.ts'

const csv = 'id,note\n1,"a ""quote""\nand a break"\n2,\n3,ü\n'

/** Cut anywhere, also within a character. */
async function* pieces(size: number) {
  const bytes = Buffer.from(csv)
  for (let offset = 0; offset < bytes.length; offset += size) {
    await new Promise(setImmediate)
    yield bytes.subarray(offset, offset + size)
  }
}

t.test('encoded rows pass as they are, with the same headers, limits and receipt', async (t) => {
  const receipts: Receipt[] = []
  const { url } = await serve(
    t,
    (app) => {
      for (const size of [1, 7, 1000]) {
        app.get(`/${size}`, (_request, reply) =>
          reply.csv(pieces(size), { encoded: true, filename: 'a.csv', digest: true })
        )
      }
      app.get('/text', (_request, reply) => reply.csv([csv], { encoded: true, header: false }))
      app.get('/limit', (_request, reply) => reply.csv(pieces(20), { encoded: true, maxRows: 1 }))
      app.get('/failing', (_request, reply) =>
        reply.csv(
          async function* () {
            yield* pieces(30)
            throw new Error('late')
          },
          { encoded: true }
        )
      )
      app.get('/rows', (_request, reply) => reply.csv([{ a: 1 }] as any, { encoded: true }))
    },
    { defaults: { onReceipt: (receipt) => receipts.push(receipt), delimiter: ';' } }
  )
  for (const size of [1, 7, 1000]) {
    const response = await fetch(`${url}/${size}`)
    t.equal(response.headers.get('content-type'), 'text/csv; charset=utf-8; header=present')
    t.match(response.headers.get('content-disposition'), /a\.csv/)
    t.equal(await response.text(), csv)
    const sha256 = createHash('sha256').update(csv).digest('hex')
    t.match(receipts.pop(), { status: 'complete', rows: 3, bytes: Buffer.byteLength(csv), sha256 })
  }
  t.match((await fetch(`${url}/text`)).headers.get('content-type'), /header=absent/)
  t.match(receipts.pop(), { rows: 4 })
  t.equal((await curl(`${url}/limit`)).code, 56)
  t.match(receipts.pop(), { status: 'limit_reached', errorCode: 'CSV_EXPORT_MAX_ROWS' })
  t.equal((await curl(`${url}/failing`)).code, 56)
  t.match(receipts.pop(), { status: 'source_failed' })
  t.match(await (await fetch(`${url}/rows`)).json(), { code: 'CSV_EXPORT_INVALID_CHUNK' })
})

t.test('a last row without a line end counts for maxRows', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.csv(['a\n1\n2\n3'], { encoded: true, maxRows: 2 }))
  })
  t.match(await (await fetch(url)).json(), { code: 'CSV_EXPORT_MAX_ROWS' })
})

t.test('what would change the text is refused', async (t) => {
  const { url } = await serve(t, (app) => {
    for (const [name, value] of Object.entries({
      columns: ['a'],
      delimiter: ';',
      formulas: 'escape',
      endMark: 'x'
    })) {
      app.get(`/${name}`, (_request, reply) => reply.csv([csv], { encoded: true, [name]: value } as any))
    }
  })
  for (const name of ['columns', 'delimiter', 'formulas', 'endMark']) {
    t.match(await (await fetch(`${url}/${name}`)).json(), {
      code: 'CSV_EXPORT_INVALID_OPTION',
      message:
        name === 'formulas'
          ? /^option "formulas" must be 'keep' with "encoded: true"/
          : `option "${name}" must be left out with "encoded: true"`
    })
  }
})

t.test('rows are counted as a reader would', (t) => {
  const cell = fc.oneof(fc.constantFrom('', '"', '\n', '\r\n', '""', ','), fc.string())
  const rows = fc.array(fc.tuple(cell, cell), { maxLength: 20 })
  fc.assert(
    fc.property(rows, fc.boolean(), fc.integer({ min: 1, max: 9 }), (rows, eof, size) => {
      const bytes = Buffer.from(stringify([['a', 'b'], ...rows], { eof }))
      const encoder = new EncodedRows(true)
      for (let offset = 0; offset < bytes.length; offset += size) {
        encoder.encode(bytes.subarray(offset, offset + size))
      }
      encoder.end()
      return encoder.count === rows.length
    }),
    { numRuns: 1_000 }
  )
  t.end()
})
