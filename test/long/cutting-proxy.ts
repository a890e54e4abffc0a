import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** A connection in between that breaks after some bytes, as a train's does. */
export interface CuttingProxy {
  url: string
  /** How many connections it has cut. */
  readonly cuts: number
}

/** @param cutAfter bytes of the next connection's answers; undefined lets it be */
export async function startCuttingProxy(
  t: Test,
  target: string,
  cutAfter: () => number | undefined
): Promise<CuttingProxy> {
  const { port } = new URL(target)
  const sockets = new Set<Socket>()
  let cuts = 0
  const server = createServer((client) => {
    const upstream = connect(Number(port), '127.0.0.1')
    let left = cutAfter()
    for (const socket of [client, upstream]) {
      sockets.add(socket.on('error', () => {}))
      socket.once('close', () => sockets.delete(socket))
    }
    client.pipe(upstream)
    upstream.on('data', (data: Buffer) => {
      const isCut = left !== undefined && data.length >= left
      client.write(isCut ? data.subarray(0, left) : data, () => {
        if (!isCut) return
        client.resetAndDestroy()
        upstream.destroy()
      })
      if (isCut) {
        cuts++
        upstream.pause()
      } else if (left !== undefined) left -= data.length
    })
    upstream.once('end', () => client.end())
    client.once('close', () => upstream.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get cuts() {
      return cuts
    }
  }
}
