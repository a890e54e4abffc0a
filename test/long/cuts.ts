import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import type { Test } from 'tap'

export interface CuttingRelay {
  url: string
  /** Bytes of replies, in each of the next connections that have so many, after which it is reset. */
  cuts: number[]
  /** What clients have sent, a request or several a text. */
  requests: string[]
}

/** A way to a server that breaks downloads. */
export async function cutting(t: Test, origin: string): Promise<CuttingRelay> {
  const { hostname, port } = new URL(origin)
  const cuts: number[] = []
  const requests: string[] = []
  const relay = createServer((client) => {
    let passed = 0
    const server = connect(Number(port), hostname)
    client.on('data', (request) => requests.push(request.toString('latin1')))
    client.pipe(server)
    server.on('data', (reply) => {
      passed += reply.length
      client.write(reply)
      if (passed <= (cuts[0] ?? Number.POSITIVE_INFINITY)) return
      cuts.shift()
      client.resetAndDestroy()
    })
    server.on('close', () => client.end())
    for (const socket of [client, server]) socket.on('error', () => {})
    client.on('close', () => server.destroy())
  })
  relay.listen(0, '127.0.0.1')
  await once(relay, 'listening')
  t.teardown(() => relay.close())
  return { url: `http://127.0.0.1:${(relay.address() as AddressInfo).port}`, cuts, requests }
}
