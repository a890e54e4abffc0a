import { once } from 'node:events'
import t from 'tap'
import { request } from 'undici'
import { listen, printed, startCurl } from '../clients.ts'
import { build, curl, Log } from '../helper.ts'

t.test('each line arrives by itself, with the time that has passed', async (t) => {
  const origin = await listen(await build(t))
  const { headers, body } = await request(`${origin}/streamed?sleep=0.05&lines=3`)
  t.match(headers, { 'content-type': 'text/plain; charset=utf-8', 'transfer-encoding': 'chunked' })
  const lines = []
  for await (const chunk of body) lines.push(String(chunk))
  t.equal(lines.length, 3)
  const times = lines.map((line) => Number(/^line \d after (\d+\.\d{3}) s\n$/.exec(line)?.[1]))
  // A timer may fire a millisecond early.
  times.forEach((time, index) => {
    t.ok(time >= 0.049 * (index + 1), `line ${index + 1} after ${time} s`)
  })
})

t.test('a long silence is broken by heartbeats, a short one is not', async (t) => {
  const origin = await listen(await build(t))
  const silent = startCurl(`${origin}/streamed?sleep=60&heartbeat=0.02`)
  t.match(await printed(silent.stdout, /(\[waiting\]\n){3}/), /^\[waiting\]/)
  silent.kill()
  const { body } = await curl(`${origin}/streamed?sleep=0.01&lines=2`)
  t.notMatch(body, /waiting/)
})

t.test('lines=0 goes on until the client leaves', async (t) => {
  const log = new Log()
  const origin = await listen(await build(t, { logger: { stream: log.stream } }))
  const client = startCurl(`${origin}/streamed?sleep=0.001&lines=0`)
  await printed(client.stdout, /line 20 /)
  client.kill()
  t.ok((await log.find(/client_gone/)).export.rows >= 20)
})

t.test('an endless reply does not keep the server from closing', async (t) => {
  const app = await build(t)
  const client = startCurl(`${await listen(app)}/streamed?sleep=0.001&lines=0`)
  await printed(client.stdout, /line 2 /)
  const exit = once(client, 'exit')
  client.stdout.resume()
  await app.close()
  await exit
  t.pass('the request has ended, too')
})

t.test('a wrong parameter is a 400 that names it', async (t) => {
  const origin = await listen(await build(t))
  for (const query of ['sleep=0', 'sleep=', 'sleep=x', 'lines=-1', 'lines=', 'heartbeat=0', 'pause=1']) {
    const { statusCode, body } = await request(`${origin}/streamed?${query}`)
    t.equal(statusCode, 400, query)
    t.match(await body.text(), `parameter \\"${query.split('=')[0]}\\"`)
  }
})
