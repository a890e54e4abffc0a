import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect as connectSocket, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Receipt } from '../../plugins/csv-export/index.ts'
import { serve } from '../helper.ts'

// Each waits most of its time.
t.jobs = 4
const options = { buffered: true, timeout: 120_000 }
t.setTimeout(150_000)

/** How a client begins: https://www.rfc-editor.org/rfc/rfc9113#section-3.4 */
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
const largest = 2 ** 31 - 1

function frame(type: number, flags: number, stream: number, payload = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.set([type, flags], 3)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

const ofNumber = (number: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(number)
  return bytes
}

/** SETTINGS with the largest window of a stream, and the same for the connection. */
const largestWindows = [
  frame(4, 0, 0, Buffer.concat([Buffer.from([0, 4]), ofNumber(largest)])),
  frame(8, 0, 0, ofNumber(largest - 65_535))
]

/** GET, http and the path / are entries of HPACK's table; the authority is "a". */
const request = frame(1, 5, 1, Buffer.from([0x82, 0x86, 0x84, 0x41, 1, 0x61]))

/** Its system takes what it has room for, and its program nothing. */
function sleepingClient(t: Test, url: string, frames: Buffer[]): Socket {
  const socket = connectSocket({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {}).pause()
  socket.write(Buffer.concat([preface, ...frames]))
  return socket
}

/** /index.html, which is an entry of the table as well, in a stream of its own. */
const otherRequest = frame(1, 5, 3, Buffer.from([0x82, 0x86, 0x85, 0x41, 1, 0x61]))

async function* endless() {
  for (let id = 0; ; id++) yield { id, text: 'x'.repeat(1_000) }
}

/** Resolves when the system takes no more for now. */
async function full(socket: Socket): Promise<void> {
  for (let before = -1; socket.bytesWritten !== before || before === 0; await sleep(500)) {
    before = socket.bytesWritten
  }
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
    while (app.csvExports.running().length < 100) await sleep(50)
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

t.test('others of its connection have stalled, too', { ...options }, async (t) => {
  const { promise, resolve } = Promise.withResolvers<Receipt>()
  const { url } = await serve(
    t,
    (app) => {
      app.get('/', (_request, reply) => reply.csv(endless(), { maxDuration: 2_000 }))
      app.get('/index.html', (_request, reply) => reply.csv(endless(), { onReceipt: resolve }))
    },
    { http2: true }
  )
  sleepingClient(t, url, [...largestWindows, request, otherRequest])
  t.match(await promise, { status: 'client_stalled', errorCode: 'CSV_EXPORT_CLIENT_STALLED' })
})

t.test('a slow one gets the end of a whole file when the server closes', { ...options }, async (t) => {
  const { promise: complete, resolve } = Promise.withResolvers<Receipt>()
  const rows = Array.from({ length: 3_000 }, () => ['x'.repeat(1_000)])
  const { app, url } = await serve(
    t,
    (app) => app.get('/', (_request, reply) => reply.csv(rows, { header: false, onReceipt: resolve })),
    { http2: true }
  )
  const client = connectHttp2(`http://127.0.0.1:${await slowLink(t, Number(new URL(url).port))}`, {
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
