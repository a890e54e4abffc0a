import { once } from 'node:events'
import type { ServerHttp2Stream } from 'node:http2'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { mock } from 'node:test'
import t, { type Test } from 'tap'
import { destroyIfStuck, patience } from '../../../../plugins/csv-export/connection/sockets.ts'
import type { Receipt } from '../../../../plugins/csv-export/index.ts'
import { gate, serve } from '../../../helper.ts'
import { full, largestWindows, otherRequest, request, sleepingClient } from '../../../sleeping-client.ts'

async function connection(t: Test): Promise<{ server: Socket; client: Socket }> {
  const listening: Server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => listening.close())
  await once(listening, 'listening')
  const { port } = listening.address() as { port: number }
  const accepted = once(listening, 'connection')
  const client = connect(port, '127.0.0.1')
  const [server] = (await accepted) as [Socket]
  t.teardown(() => client.destroy())
  return { server, client }
}

const most = patience / 1_000

function seconds(count: number): void {
  for (let passed = 0; passed < count; passed++) mock.timers.tick(1_000)
}

t.beforeEach(() => mock.timers.enable({ apis: ['setInterval'] }))
t.afterEach(() => mock.timers.reset())

t.test('a connection on which nothing moves is destroyed', async (t) => {
  const { server, client } = await connection(t)
  destroyIfStuck(server, () => true)
  seconds(most - 1)
  client.write('a')
  await once(server.resume(), 'data')
  seconds(most)
  t.notOk(server.destroyed, 'the client has sent something meanwhile')
  await new Promise((resolve) => server.write('a', resolve))
  seconds(most)
  t.notOk(server.destroyed, 'the client has taken something meanwhile')
  seconds(1)
  t.ok(server.destroyed)
})

t.test('one on which nothing is awaited is left alone', async (t) => {
  const { server } = await connection(t)
  let isAwaited = false
  destroyIfStuck(server, () => isAwaited)
  seconds(2 * most)
  t.notOk(server.destroyed)
  isAwaited = true
  seconds(most)
  t.ok(server.destroyed)
})

t.test('one is left alone when nothing will be awaited any more', async (t) => {
  const { server } = await connection(t)
  let isOver = false
  destroyIfStuck(
    server,
    () => true,
    () => isOver
  )
  seconds(most - 1)
  isOver = true
  seconds(2 * most)
  t.notOk(server.destroyed)
  server.destroy()
})

t.test('all that runs on it has stalled then', async (t) => {
  const { opened: receipt, open: onReceipt } = gate<Receipt>()
  const rows = () => Array.from({ length: 50_000 }, () => ['x'.repeat(1_000)])
  const { app, url } = await serve(
    t,
    (app) => {
      app.get('/', (_request, reply) => reply.csv(rows(), { header: false, report: 'one' }))
      app.get('/index.html', (_request, reply) => reply.csv(rows(), { header: false, onReceipt }))
    },
    { http2: true }
  )
  const accepted = once(app.server, 'connection')
  const streamed = once(app.server, 'stream')
  sleepingClient(t, url, [...largestWindows, request, otherRequest])
  const [socket] = (await accepted) as [Socket]
  await full(socket)
  const one = app.csvExports.running().find(({ report }) => report === 'one')
  const [stream] = (await streamed) as [ServerHttp2Stream]
  const closed = new Promise((resolve) => stream.once('close', resolve))
  t.ok(app.csvExports.end(one?.id ?? ''))
  // In Node alone: its end waits behind what the client does not take.
  await closed
  seconds(most)
  t.match(await receipt, { status: 'client_stalled', errorCode: 'CSV_EXPORT_CLIENT_STALLED' })
})
