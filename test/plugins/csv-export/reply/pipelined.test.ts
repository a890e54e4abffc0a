import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import csvExport, { type Receipt } from '../../../../plugins/csv-export/index.ts'
import { gate } from '../../../helper.ts'

// Two requests at once on one connection. test/attacks/long/pipelined.test.ts has more of them.

/** A first export that ends when it is told to, and another behind it. */
async function serve(t: Test, second: 'whole' | 'destroyed') {
  const firstMayEnd = gate()
  const receipts: Receipt[] = []
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(() => app.close())
  await app.register(csvExport, { onReceipt: (receipt) => receipts.push(receipt) })
  app.get('/first', (_request, reply) =>
    reply.csv(async function* () {
      yield { id: 'first' }
      await firstMayEnd.opened
    })
  )
  app.get('/second', async (_request, reply) => {
    if (second === 'destroyed') setImmediate(() => reply.raw.destroy())
    setImmediate(() => setImmediate(firstMayEnd.open))
    return reply.csv([{ id: 'second' }])
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as { port: number }
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const request = (path: string, last = '') => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${last}\r\n`
  socket.write(request('/first') + request('/second', 'Connection: close\r\n'))
  return { received: await text(socket), receipts }
}

t.test('an export behind another is sent when its turn comes', async (t) => {
  const { received, receipts } = await serve(t, 'whole')
  t.match(received, /first\n.*\r\n0\r\n\r\nHTTP.*second\n.*\r\n0\r\n\r\n$/s)
  while (receipts.length < 2) await turn()
  t.match(receipts, [
    { report: '/first', status: 'complete' },
    { report: '/second', status: 'complete' }
  ])
})

t.test('one that its server ends before its turn closes the connection, behind the first', async (t) => {
  const { received, receipts } = await serve(t, 'destroyed')
  t.match(received, /first\n.*\r\n0\r\n\r\n$/s, 'which is whole')
  t.notMatch(received, 'second')
  t.match(
    receipts.filter(({ report }) => report === '/first'),
    [{ status: 'complete' }]
  )
})
