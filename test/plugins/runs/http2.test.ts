import { once } from 'node:events'
import { connect, constants } from 'node:http2'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import type { PluginOptions, Receipt } from '../../../plugins/csv-export/index.ts'
import { gate } from '../../helper.ts'
import { curlReply, heldReport, MemoryFiles, numbers, serveRuns, startEmptyPostgres } from './runs.ts'

const connectionString = await startEmptyPostgres(t)
const server = { http2: true }

/** curl over HTTP/2 in clear text. */
const curl = (...args: string[]) => curlReply('--http2-prior-knowledge', ...args)
const json = ({ body }: { body: Buffer }) => JSON.parse(body.toString())

t.test('a run over HTTP/2, from its request to a part of its file', async (t) => {
  const { report, asked, release } = heldReport()
  const { url } = await serveRuns(t, { connectionString, server, reports: [report, numbers] })
  const open = await curl('-H', 'prefer: respond-async', `${url}/reports/held.csv`)
  const { id } = json(open)
  t.equal(open.status, 202)
  t.equal(open.headers.get('location'), `/runs/${id}`)
  t.equal(open.headers.get('retry-after'), '1')
  t.equal(open.headers.get('preference-applied'), 'respond-async')
  await asked
  const early = await curl(`${url}/runs/${id}/result`)
  t.match([early.status, json(early).code], [503, 'CSV_EXPORT_RUN_OPEN'])
  t.equal(early.headers.get('retry-after'), '1')
  t.equal((await curl('-X', 'DELETE', `${url}/runs/${id}`)).status, 409)
  const waiting = curl('-H', 'prefer: wait=60', `${url}/runs/${id}`)
  release()
  t.match(json(await waiting), { state: 'succeeded', progress: { rows: 2 } })

  const payload = ['-H', 'content-type: application/json', '-d', '{"count":30000}']
  const accepted = await curl('-H', 'idempotency-key: k', ...payload, `${url}/reports/numbers/runs`)
  t.equal(accepted.status, 202)
  const run = `${url}${accepted.headers.get('location')}`
  const result = await curl('-H', 'prefer: wait=60', `${run}/result`)
  t.equal(result.status, 303)
  t.equal(result.headers.get('preference-applied'), 'wait=60')
  const file = `${url}${result.headers.get('location')}`
  const whole = await curl(file)
  const { bytes } = json(await curl(run)).result
  const expected = (await curl(`${url}/reports/numbers.csv?count=30000`)).body
  t.match([whole.code, whole.status, whole.headers.get('content-length')], [0, 200, String(bytes)])
  t.ok(whole.body.equals(expected))

  const part = await curl('-r', '5000-69999', file)
  t.match([part.code, part.status], [0, 206])
  t.equal(part.headers.get('content-range'), `bytes 5000-69999/${bytes}`)
  t.equal(part.headers.get('repr-digest'), whole.headers.get('repr-digest'))
  t.ok(part.body.equals(expected.subarray(5_000, 70_000)))
  const behind = await curl('-r', `${bytes}-`, file)
  t.match([behind.status, behind.headers.get('content-range')], [416, `bytes */${bytes}`])
  const same = await curl('-H', `if-none-match: ${whole.headers.get('etag')}`, file)
  t.match([same.code, same.status, same.body.length], [0, 304, 0])
  const head = await curl('--head', file)
  t.match([head.code, head.status], [0, 200])
  for (const name of ['content-length', 'etag', 'repr-digest', 'accept-ranges', 'content-disposition']) {
    t.equal(head.headers.get(name), whole.headers.get(name), name)
  }
  t.equal((await curl('-X', 'POST', `${run}/cancel`)).status, 200)
  t.equal((await curl('-X', 'DELETE', run)).status, 204)
  t.equal((await curl(file)).status, 404)
})

t.test('of two downloads on one connection, one that is reset leaves the other whole', async (t) => {
  const more = gate()
  let reads = 0
  class HeldFiles extends MemoryFiles {
    override async *read(id: string, from: number, to: number) {
      const isFirst = reads++ === 0
      for await (const chunk of super.read(id, from, to)) {
        yield chunk
        if (!isFirst) await more.opened
      }
    }
  }
  const gone = gate<Receipt>()
  const defaults: PluginOptions = {
    onReceipt: (receipt) => receipt.status === 'client_gone' && gone.open(receipt)
  }
  const { url } = await serveRuns(t, { connectionString, server, files: new HeldFiles(), defaults })
  const payload = ['-H', 'content-type: application/json', '-d', '{"count":500000}']
  const { id } = json(await curl(...payload, `${url}/reports/numbers/runs`))
  const { result } = json(await curl('-H', 'prefer: wait=60', `${url}/runs/${id}`))

  const session = connect(url)
  t.teardown(() => session.close())
  const [reset, other] = [
    session.request({ ':path': result.href }),
    session.request({ ':path': result.href })
  ]
  const [head] = await once(reset, 'response')
  await once(reset, 'readable')
  reset.close(constants.NGHTTP2_CANCEL)
  t.match(await gone.opened, { id: head['export-id'], report: 'numbers' })
  more.open()
  t.equal((await buffer(other)).length, result.bytes)
})

t.test('a store that gives too little breaks the stream, not the connection', async (t) => {
  class ShortFiles extends MemoryFiles {
    override async *read(id: string, from: number, to: number) {
      yield* super.read(id, from, to - 1)
    }
  }
  const { url } = await serveRuns(t, { connectionString, server, files: new ShortFiles() })
  const { id } = json(await curl('-X', 'POST', `${url}/reports/numbers/runs`))
  const { result } = json(await curl('-H', 'prefer: wait=60', `${url}/runs/${id}`))
  const { code } = await curl('-f', `${url}${result.href}`)
  t.match(code, /^(18|92)$/)
})
