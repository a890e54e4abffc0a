import { once } from 'node:events'
import { connect as connectSocket } from 'node:net'
import t from 'tap'
import { serve } from '../helper.ts'

t.test(
  'a client that never closes its HTTP/2 connection does not keep the server open',
  { timeout: 10_000 },
  async (t) => {
    const { app, url } = await serve(t, () => {}, { http2: true })
    const socket = connectSocket({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true })
    t.teardown(() => socket.destroy())
    const session = once(app.server, 'session')
    const emptySettings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])
    socket.on('error', () => {}).resume()
    socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), emptySettings]))
    await session
    await app.close()
    t.ok(socket.writable)
  }
)
