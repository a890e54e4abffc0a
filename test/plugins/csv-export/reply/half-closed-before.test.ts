import { once } from 'node:events'
import { connect } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import type { Receipt } from '../../../../plugins/csv-export/index.ts'
import { gate, serve } from '../../../helper.ts'

for (const turns of [0, 1, 5]) {
  t.test(`a client that ends its side before the export begins, by ${turns} turns`, async (t) => {
    const { opened: receipt, open: onReceipt } = gate<Receipt>()
    const { url } = await serve(
      t,
      (app) => {
        app.get('/', async (request, reply) => {
          await once(request.socket, 'end')
          for (let count = 0; count < turns; count++) await turn()
          return reply.csv([{ a: 1 }])
        })
      },
      { defaults: { onReceipt } }
    )
    const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true })
    let received = ''
    socket
      .on('error', () => {})
      .on('data', (data) => {
        received += data
      })
    socket.end('GET / HTTP/1.0\r\n\r\n')
    await once(socket, 'close')
    t.equal(received, '')
    t.equal((await receipt).status, 'client_gone')
  })
}
