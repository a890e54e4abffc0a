import { once } from 'node:events'
import t from 'tap'
import { request } from 'undici'
import { RecordStringifier } from '../../plugins/csv-export/csv/record-stringifier.ts'
import { listen, startCurl } from '../clients.ts'
import { build, curl, Log } from '../helper.ts'

const firstRows = 'One,Two,Three\nHello,world,0\nHello,world,1\n'

t.test('the two downloads are byte-identical', async (t) => {
  const origin = await listen(await build(t))
  for (const query of ['', '?rows=0', '?rows=1', '?rows=1000', '?rows=20001']) {
    const buffered = await curl(`${origin}/download_csv${query}`)
    const streamed = await curl(`${origin}/download_csv_streaming${query}`)
    t.equal(buffered.body, streamed.body, `for "${query}"`)
  }
})

t.test('the rows are numbered from 0, and there are 100 by default', async (t) => {
  const origin = await listen(await build(t))
  t.equal((await curl(`${origin}/download_csv_streaming?rows=2`)).body, firstRows)
  const { body } = await curl(`${origin}/download_csv_streaming`)
  t.equal(body.split('\n').length, 102)
  t.ok(body.endsWith('Hello,world,99\n'))
})

t.test('the buffered download has a Content-Length, the streamed one is chunked', async (t) => {
  const origin = await listen(await build(t))
  const buffered = await request(`${origin}/download_csv?rows=2`)
  t.equal(await buffered.body.text(), firstRows)
  t.match(buffered.headers, {
    'content-length': String(firstRows.length),
    'content-type': 'text/csv; charset=utf-8; header=present',
    'content-disposition': /^attachment; filename="?download.csv"?$/
  })
  const streamed = await request(`${origin}/download_csv_streaming?rows=2`)
  t.equal(await streamed.body.text(), firstRows)
  t.equal(streamed.headers['transfer-encoding'], 'chunked')
  t.equal(streamed.headers['content-length'], undefined)
  for (const name of ['content-type', 'content-disposition']) {
    t.equal(streamed.headers[name], buffered.headers[name], name)
  }
})

t.test('each row of a slow download is sent as it comes', async (t) => {
  const origin = await listen(await build(t))
  const { body } = await request(`${origin}/download_csv_streaming?rows=3&delay=50`)
  const chunks = []
  for await (const chunk of body) chunks.push(String(chunk))
  t.strictSame(chunks, ['One,Two,Three\nHello,world,0\n', 'Hello,world,1\n', 'Hello,world,2\n'])
})

t.test('each row of the streamed download goes through csv-stringify', async (t) => {
  const origin = await listen(await build(t))
  const calls = t.capture(RecordStringifier.prototype, 'stringify', RecordStringifier.prototype.stringify)
  await curl(`${origin}/download_csv_streaming?rows=1000`)
  t.equal(calls().length, 1001, 'and the header')
})

t.test('a HEAD request builds no file', async (t) => {
  const origin = await listen(await build(t))
  // Built, the file would take an hour and a half.
  const { statusCode, headers, body } = await request(`${origin}/download_csv?delay=60000`, {
    method: 'HEAD'
  })
  await body.dump()
  const streamed = await request(`${origin}/download_csv_streaming?delay=60000`, { method: 'HEAD' })
  await streamed.body.dump()
  for (const name of ['content-type', 'content-disposition']) t.equal(headers[name], streamed.headers[name])
  t.match([statusCode, streamed.statusCode], [200, 200])
  t.equal(headers['content-length'], undefined, 'nor is its length known')
})

t.test('a wrong parameter is a 400 that names it', async (t) => {
  const origin = await listen(await build(t))
  const wrong: [path: string, names: RegExp][] = [
    ['/download_csv?rows=-1', /"rows" must be >= 0, got -1/],
    ['/download_csv?rows=1000001', /"rows" must be <= 1000000/],
    ['/download_csv_streaming?rows=100000001', /"rows" must be <= 100000000/],
    ['/download_csv?rows=', /"rows" must be integer, got ""/],
    ['/download_csv?rows=many', /"rows" must be integer, got "many"/],
    ['/download_csv?rows=1.5', /"rows" must be integer/],
    ['/download_csv?rows=1&rows=2', /"rows" must be integer/],
    ['/download_csv?delay=soon', /"delay" must be integer/],
    ['/download_csv?row=5', /unknown parameter "row" \(known: rows, delay\)/],
    ['/download_csv_streaming?__proto__=5', /unknown parameter "__proto__"/]
  ]
  for (const [path, names] of wrong) {
    const { statusCode, body } = await request(origin + path)
    t.equal(statusCode, 400, path)
    t.match(((await body.json()) as { message: string }).message, names)
  }
})

t.test('a client that leaves stops the rows of the buffered download', async (t) => {
  const log = new Log()
  const app = await build(t, { logger: { stream: log.stream } })
  const origin = await listen(app)
  const arrived = once(app.server, 'request')
  const client = startCurl(`${origin}/download_csv?delay=60000`)
  await arrived
  client.kill()
  const line = await log.find(/the client left/)
  t.match(line, { err: { code: 'CLIENT_GONE' }, res: { statusCode: 499 } })
})
