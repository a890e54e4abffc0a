import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import t from 'tap'
import { most, probeLines, readProbeRequest, readProbeRow } from '../../../plugins/csv-export/probe/rows.ts'
import { until } from '../../clients.ts'
import { curl, serve } from '../../helper.ts'

const read = (query: string) => readProbeRequest(new URLSearchParams(query))

t.test('there is no route of a probe unless the option says so', async (t) => {
  const { app } = await serve(t, () => {})
  t.equal((await app.inject('/csv-export-probe')).statusCode, 404)
})

t.test('the route streams rows that say when they were made, through reply.csv()', async (t) => {
  // None of these is for it.
  const defaults = {
    ...{
      probe: '/ops/probe',
      delimiter: ';',
      header: false,
      excel: true,
      endMark: 'END',
      maxRows: 1,
      maxBytes: 1
    },
    viewer: () => {
      throw new Error('nobody has signed in')
    }
  }
  const { url } = await serve(t, () => {}, { defaults })
  const before = Date.now()
  const { code, body } = await curl('--include', `${url}/ops/probe?rows=2&interval=0&bytes=5`)
  t.equal(code, 0)
  const [head = '', text = ''] = body.split('\r\n\r\n')
  t.match(head, /^export-id: /im)
  const lines = text.split('\n')
  t.equal(lines[0], 'row,sent,http,coding,trailers,padding')
  t.match(lines[1], /^1,\d+,1\.1,,0,[\w-]{5}$/)
  t.equal(lines.length, 4)
  const row = readProbeRow(lines[2] as string)
  t.match(row, { number: 2, httpVersion: '1.1', coding: '', asksTrailers: false })
  t.ok((row?.sent ?? 0) >= before)
})

t.test("a mask of the users' columns is none of it, and holds for the users", async (t) => {
  const { app } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv([{ a: 1 }])), {
    defaults: { probe: true, columns: [{ key: 'a', mask: () => true }] }
  })
  const { statusCode, body } = await app.inject('/csv-export-probe?rows=1')
  t.equal(statusCode, 200)
  t.match(body, /^row,sent,http,coding,trailers,padding\n1,\d+,1\.1,,0,\n$/)
  t.equal((await app.inject('/')).body, 'a\n""\n')
})

t.test('it says how the plugin codes, and whether it is asked for trailers', async (t) => {
  const { url } = await serve(t, () => {}, { defaults: { probe: true } })
  const headers = ['--header', 'TE: trailers', '--compressed', '--header', 'Accept-Encoding: gzip']
  const { body } = await curl(...headers, `${url}/csv-export-probe?rows=1`)
  t.match(readProbeRow(body.split('\n')[1] as string), { coding: 'gzip', asksTrailers: true })
})

t.test('it breaks when it is asked to', async (t) => {
  const { url } = await serve(t, () => {}, { defaults: { probe: true } })
  const { code, body } = await curl(`${url}/csv-export-probe?rows=4&interval=20&breakAfter=2`)
  t.equal(code, 56)
  t.equal(body.split('\n').length, 4)
})

t.test('it gives no more than its bounds', async (t) => {
  t.same(read(''), { rows: 10, interval: 100, bytes: 0, breakAfter: 0 })
  t.same(read('rows=1e9&interval=1e9&bytes=1e9&breakAfter=1e9'), {
    rows: 1_000,
    interval: 120,
    bytes: 1_048,
    breakAfter: 1_000
  })
  t.same(read('rows=1&interval=1e9&bytes=1e9'), {
    rows: 1,
    interval: 120_000,
    bytes: 1_048_576,
    breakAfter: 0
  })
  t.same(read('rows=-1&interval=x&bytes=NaN&breakAfter=0.5'), {
    rows: 1,
    interval: 0,
    bytes: 0,
    breakAfter: 0
  })
  const seen = { httpVersion: '1.1', coding: '', asksTrailers: false }
  const abort = new AbortController()
  const lines = probeLines(read('rows=2&interval=1e9'), seen, abort.signal)
  await lines.next()
  await lines.next()
  const third = lines.next()
  abort.abort()
  await t.rejects(third, { name: 'AbortError' }, 'its wait ends with its client')
})

t.test('it serves so many at a time, and is free again when they have left', async (t) => {
  const { app, url } = await serve(t, () => {}, { defaults: { probe: true } })
  const requests = Array.from({ length: most.atATime }, () =>
    get(`${url}/csv-export-probe?rows=2&interval=1e6`)
  )
  for (const request of requests) {
    request.on('error', () => {})
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    await once(response, 'data')
  }
  const refused = await app.inject('/csv-export-probe?rows=1')
  t.match(refused, { statusCode: 503, headers: { 'retry-after': '10' } })
  t.match(refused.json(), { code: 'CSV_EXPORT_TOO_MANY_PROBES' })
  for (const request of requests) request.destroy()
  await until(() => app.csvExports.running().length === 0)
  t.equal((await app.inject('/csv-export-probe?rows=1')).statusCode, 200)
})

t.test('what is no row of a probe is read as none', async (t) => {
  for (const line of ['', 'row,sent,http,coding,trailers,padding', '1,2,1.1,,2,', '1;2;1.1;;0;']) {
    t.equal(readProbeRow(line), undefined, line)
  }
})
