import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import type { Receipt } from '../plugins/csv-export/index.ts'
import { gate, serve } from './helper.ts'

t.test('an export that fails just as its client ends its side leaves no socket open', async (t) => {
  const { opened: ended, open: end } = gate<Receipt>()
  const { app, url } = await serve(
    t,
    (app) => {
      app.get('/', (request, reply) => {
        async function* failing() {
          yield { n: 1 }
          // By the time its listeners are called, Node has begun to end the socket too.
          await once(request.raw.socket, 'end')
          throw new Error('the database is gone')
        }
        return reply.csv(failing())
      })
    },
    { defaults: { onReceipt: end } }
  )
  const accepted = once(app.server, 'connection')
  const client = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true })
  client.on('error', () => {})
  client.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
  const [socket]: Socket[] = await accepted
  const closed = once(socket as Socket, 'close')
  await once(client, 'data')
  client.end()
  t.equal((await ended).status, 'source_failed')
  await t.resolves(closed)
})
