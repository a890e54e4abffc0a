import { connect, type Socket } from 'node:net'
import { lastChunk, lengthOf } from './responses.ts'

export interface Served {
  /** Clients that got a whole body. */
  whole: number
  bytes: number
}

const [url = '', count, bytesPerSecond] = process.argv.slice(2)
const { hostname, port, pathname, search } = new URL(url)
const slowMilliseconds = 15_000
const tick = 100

interface Client {
  socket: Socket
  allowance: number
  bytes: number
  /** Of its head and body, where the head tells. */
  length: number | undefined
  end: string
}

// A body longer than what the system's socket buffers take would last for minutes at this pace: after a while the rest
// is read at full speed, to see that it is whole.
let unlimited = false

function start(): Client {
  const socket = connect(Number(port), hostname)
  const client: Client = { socket, allowance: 0, bytes: 0, length: undefined, end: '' }
  socket.write(`GET ${pathname}${search} HTTP/1.1\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`)
  socket.on('error', () => {})
  socket.once('data', (chunk) => {
    client.length = lengthOf(chunk.toString('latin1'))
  })
  socket.on('data', (chunk) => {
    client.bytes += chunk.length
    client.end = (client.end + chunk.toString('latin1', Math.max(0, chunk.length - 7))).slice(-7)
    client.allowance -= chunk.length
    if (client.allowance < 0 && !unlimited) socket.pause()
  })
  return client
}

function isWhole({ bytes, length, end }: Client): boolean {
  return length === undefined ? end === lastChunk : bytes === length
}

const clients = Array.from({ length: Number(count) }, start)
const ends = clients.map(({ socket }) => new Promise((resolve) => socket.once('close', resolve)))

const pace = setInterval(() => {
  for (const client of clients) {
    client.allowance += (Number(bytesPerSecond) * tick) / 1000
    if (client.allowance >= 0) client.socket.resume()
  }
}, tick)
setTimeout(() => {
  unlimited = true
  clearInterval(pace)
  for (const { socket } of clients) socket.resume()
}, slowMilliseconds)

await Promise.all(ends)
process.send?.({
  whole: clients.filter(isWhole).length,
  bytes: clients.reduce((sum, { bytes }) => sum + bytes, 0)
} satisfies Served)
process.disconnect?.()
