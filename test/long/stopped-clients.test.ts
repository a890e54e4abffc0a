import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect as connectSocket, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Receipt } from '../../plugins/csv-export/index.ts'
import { serve } from '../helper.ts'
import { frame, full, largest, largestWindows, request, sleepingClient } from '../sleeping-client.ts'

// Each waits most of its time.
t.jobs = 4
const options = { buffered: true, timeout: 240_000 }
t.setTimeout(300_000)

async function* endless() {
  for (let id = 0; ; id++) yield { id, text: 'x'.repeat(1_000) }
}

/** Of what all streams have at a time, the system takes a part every 20 s. */
t.test(
  'a slow one that takes many exports, of which one breaks, gets the others',
  { ...options },
  async (t) => {
    const receipts: Receipt[] = []
    const rows = Array.from({ length: 200 }, () => ['x'.repeat(1_000)])
    const { app, url } = await serve(
      t,
      (app) => app.get('/', (_request, reply) => reply.csv(rows, { header: false })),
      { http2: true, defaults: { onReceipt: (receipt) => receipts.push(receipt) } }
    )
    const connection = once(app.server, 'connection')
    const client = connectHttp2(`http://127.0.0.1:${await slowLink(t, Number(new URL(url).port), 80_000)}`, {
      settings: { initialWindowSize: largest }
    })
    t.teardown(() => client.destroy())
    client.on('connect', () => client.setLocalWindowSize(largest)).on('error', () => {})
    await once(client, 'remoteSettings')
    for (let count = 0; count < 100; count++)
      client
        .request({ ':path': '/' })
        .on('error', () => {})
        .resume()
    const [socket] = (await connection) as [Socket]
    await full(socket)
    t.equal(app.csvExports.running().length, 100)
    const [first] = app.csvExports.running()
    t.ok(app.csvExports.end(first?.id ?? ''))
    await sleep(80_000)
    t.equal(receipts[0]?.status, 'server_ended')
    t.ok(
      receipts.slice(1).every(({ status }) => status === 'complete'),
      'none of the others has broken'
    )
    t.notOk(client.closed, 'their connection is open')
  }
)

t.test(
  'one that never closes its HTTP/2 connection does not keep the server open',
  { ...options },
  async (t) => {
    const { app, url } = await serve(t, () => {}, { http2: true })
    const session = once(app.server, 'session')
    const socket = sleepingClient(t, url, [frame(4, 0, 0)]).resume()
    await session
    await app.close()
    t.ok(socket.writable)
  }
)

t.test(
  'one that takes nothing of an export on HTTP/2 does not keep the server open',
  { ...options },
  async (t) => {
    const receipts: Receipt[] = []
    const onReceipt = (receipt: Receipt) => void receipts.push(receipt)
    const { app, url } = await serve(
      t,
      (app) => app.get('/', (_request, reply) => reply.csv(endless(), { onReceipt })),
      { http2: true }
    )
    const connection = once(app.server, 'connection')
    sleepingClient(t, url, [...largestWindows, request])
    const [socket] = (await connection) as [Socket]
    await full(socket)
    await app.close()
    t.equal(receipts[0]?.status, 'server_closing')
  }
)

t.test('the connection of one whose export has stalled on HTTP/2 is closed', { ...options }, async (t) => {
  const { promise, resolve } = Promise.withResolvers<Receipt>()
  const { app, url } = await serve(
    t,
    (app) =>
      app.get('/', (_request, reply) => reply.csv(endless(), { onReceipt: resolve, stallTimeout: 1_000 })),
    { http2: true }
  )
  const connection = once(app.server, 'connection')
  sleepingClient(t, url, [...largestWindows, request])
  const [socket] = (await connection) as [Socket]
  const closed = once(socket, 'close')
  t.equal((await promise).status, 'client_stalled')
  await closed
  t.pass('though its client still has it open')
})

t.test('a slow one gets the end of a whole file when the server closes', { ...options }, async (t) => {
  const { promise: complete, resolve } = Promise.withResolvers<Receipt>()
  const rows = Array.from({ length: 3_000 }, () => ['x'.repeat(1_000)])
  const { app, url } = await serve(
    t,
    (app) => app.get('/', (_request, reply) => reply.csv(rows, { header: false, onReceipt: resolve })),
    { http2: true }
  )
  const client = connectHttp2(`http://127.0.0.1:${await slowLink(t, Number(new URL(url).port), 100_000)}`, {
    settings: { initialWindowSize: 3_500_000 }
  })
  t.teardown(() => client.destroy())
  client.on('connect', () => client.setLocalWindowSize(3_500_000)).on('error', () => {})
  await once(client, 'remoteSettings')
  const stream = client.request({ ':path': '/' })
  let got = 0
  stream.on('data', (chunk: Buffer) => {
    got += chunk.length
  })
  const ended = once(stream, 'end')
  t.equal((await complete).status, 'complete')
  const closed = app.close()
  await ended
  t.equal(got, 3_003_000)
  client.close()
  await closed
})

/** A proxy. @param rate bytes a second @returns its port */
async function slowLink(t: Test, port: number, rate = 200_000): Promise<number> {
  const proxy = createServer(async (client) => {
    const server = connectSocket(port, '127.0.0.1').on('error', () => client.destroy())
    client.on('error', () => server.destroy()).pipe(server)
    while (!client.destroyed) {
      const bytes = server.read(Math.min(server.readableLength, rate / 10)) as Buffer | null
      if (bytes !== null) client.write(bytes)
      await sleep(100)
    }
  })
  t.teardown(() => proxy.close())
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  return (proxy.address() as { port: number }).port
}
