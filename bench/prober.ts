import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

/** In milliseconds. */
export interface Latencies {
  median: number
  p99: number
  requests: number
}

/** Asks until it is told to stop. Its first message is 'ready', its second the latencies. */
const [url = '', pause] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true, maxSockets: 1 })
let stopped = false
process.once('message', () => {
  stopped = true
})

async function request(): Promise<number> {
  const start = performance.now()
  const [response] = (await once(get(url, { agent }), 'response')) as [IncomingMessage]
  response.resume()
  await once(response, 'end')
  return performance.now() - start
}

// The first requests would measure a connection's start, and this process's own.
for (let count = 0; count < 200; count++) await request()
process.send?.('ready')

const latencies: number[] = []
while (!stopped) {
  const latency = await request()
  latencies.push(latency)
  // A turn of the event loop at least, or the message to stop would never come.
  await sleep(Math.max(0, Number(pause) - latency))
}
latencies.sort((a, b) => a - b)
const quantile = (part: number): number => latencies[Math.floor(latencies.length * part)] as number

process.send?.({ median: quantile(0.5), p99: quantile(0.99), requests: latencies.length } satisfies Latencies)
process.disconnect?.()
agent.destroy()
