import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'

/** How a client begins: https://www.rfc-editor.org/rfc/rfc9113#section-3.4 */
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
export const largest = 2 ** 31 - 1

export function frame(type: number, flags: number, stream: number, payload = Buffer.alloc(0)): Buffer {
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
export const largestWindows = [
  frame(4, 0, 0, Buffer.concat([Buffer.from([0, 4]), ofNumber(largest)])),
  frame(8, 0, 0, ofNumber(largest - 65_535))
]

/** GET, http and the path / are entries of HPACK's table; the authority is "a". */
export const request = frame(1, 5, 1, Buffer.from([0x82, 0x86, 0x84, 0x41, 1, 0x61]))

/** Its system takes what it has room for, and its program nothing. */
export function sleepingClient(t: Test, url: string, frames: Buffer[]): Socket {
  const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {}).pause()
  socket.write(Buffer.concat([preface, ...frames]))
  return socket
}

/** /index.html, which is an entry of the table as well, in a stream of its own. */
export const otherRequest = frame(1, 5, 3, Buffer.from([0x82, 0x86, 0x85, 0x41, 1, 0x61]))

/** Resolves when the system takes no more for now. */
export async function full(socket: Socket): Promise<void> {
  for (let before = -1; socket.bytesWritten !== before || before === 0; await sleep(500)) {
    before = socket.bytesWritten
  }
}
