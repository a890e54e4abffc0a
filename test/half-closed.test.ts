import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import type { Receipt } from '../plugins/csv-export/index.ts'
import { gate, serve } from './helper.ts'

t.test('a client that ends its side in mid-download is not told that the body is whole', async (t) => {
  for (const version of ['1.0', '1.1']) {
    const { opened: ended, open: end } = gate<Receipt>()
    const { app, url } = await serve(
      t,
      (app) => {
        app.get('/', (_request, reply) =>
          reply.csv(async function* ({ signal }) {
            yield { n: 1 }
            await once(signal, 'abort')
          })
        )
      },
      { defaults: { onReceipt: end } }
    )
    const accepted = once(app.server, 'connection')
    const client = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true })
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => client.once('error', resolve))
    client.write(`GET / HTTP/${version}\r\nHost: localhost\r\n\r\n`)
    const [socket]: Socket[] = await accepted
    const closed = once(socket as Socket, 'close')
    await once(client, 'data')
    client.resume().end()
    t.equal((await failed).code, 'ECONNRESET', `HTTP/${version}`)
    t.equal((await ended).status, 'client_gone')
    await t.resolves(closed, 'no socket stays open')
  }
})

t.test('a server that leaves a client half open heeds the option of its sockets, too', async (t) => {
  const { opened: ended, open: end } = gate<Receipt>()
  const { app, url } = await serve(
    t,
    (app) => {
      Object.assign(app.server, { httpAllowHalfOpen: true })
      // As those of TLS are by default.
      app.server.on('connection', (socket) => Object.assign(socket, { allowHalfOpen: false }))
      app.get('/', (_request, reply) =>
        reply.csv(async function* ({ signal }) {
          yield { n: 1 }
          await once(signal, 'abort')
        })
      )
    },
    { defaults: { onReceipt: end } }
  )
  const client = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true })
  const failed = new Promise<NodeJS.ErrnoException>((resolve) => client.once('error', resolve))
  client.write('GET / HTTP/1.0\r\n\r\n')
  await once(client, 'data')
  client.resume().end()
  t.equal((await failed).code, 'ECONNRESET')
  t.equal((await ended).status, 'client_gone')
  await app.close()
})

t.test('a break just after Node has begun to end the socket leaves none open', async (t) => {
  const { app, url } = await serve(t, (app) => {
    app.get<{ Querystring: { turns: number } }>('/', (request, reply) => {
      async function* failing() {
        yield { n: 1 }
        const { socket } = request.raw
        await new Promise(setImmediate)
        socket.end()
        for (let turn = 0; turn < request.query.turns; turn++) await new Promise(setImmediate)
        throw new Error('the database is gone')
      }
      return reply.csv(failing())
    })
  })
  for (const turns of [0, 1, 2]) {
    const accepted = once(app.server, 'connection')
    const client = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true })
    client.on('error', () => {})
    client.resume().write(`GET /?turns=${turns} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
    const [socket]: Socket[] = await accepted
    await t.resolves(once(socket as Socket, 'close'))
    client.destroy()
  }
})
