import { once } from 'node:events'
import { connect } from 'node:net'
import { isWhole } from './responses.ts'

/** Requests that got a whole response. */
export interface Requested {
  requests: number
  seconds: number
}

/**
 * Asks on each of some connections, which it keeps, for the same again and again. On sockets of its own: an HTTP client
 * would take more time for a small response than its server. Tells what it got for each 'start' and 'stop'.
 */
const [url = '', count] = process.argv.slice(2)
const { hostname, port, pathname, search } = new URL(url)
const request = `GET ${pathname}${search} HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`
let requests = 0

async function open(): Promise<void> {
  const socket = connect(Number(port), hostname).setNoDelay()
  await once(socket, 'connect')
  let response = ''
  socket.setEncoding('latin1').on('data', (text: string) => {
    response += text
    if (!isWhole(response)) return
    if (!response.startsWith('HTTP/1.1 200 ')) throw new Error(response)
    requests++
    response = ''
    socket.write(request)
  })
  socket.once('close', () => {
    throw new Error('a connection was closed')
  })
  socket.write(request)
}

await Promise.all(Array.from({ length: Number(count) }, open))
let started = 0
process.on('message', (message) => {
  if (message === 'start') [requests, started] = [0, performance.now()]
  else {
    process.send?.({ requests, seconds: (performance.now() - started) / 1000 } satisfies Requested, () =>
      process.exit()
    )
  }
})
process.send?.('ready')
