import { setTimeout as sleep } from 'node:timers/promises'
import { download, slowClients, startProbe } from '../clients.ts'
import type { Measure, Result } from '../measuring.ts'
import { RunsSite } from '../runs-site.ts'
import { exportUrl, memory, type Server, startNode } from '../servers.ts'
import { mixed } from '../shapes.ts'

const count = 500
const bytesPerSecond = 100_000
/** About 3.5 MB a client: more than the system's socket buffers take. */
const rows = 30_000
/** Of about as many bytes. */
const cargoes = 40_000

export const clients: Measure = {
  name: 'clients',
  async *run() {
    await using server = await startNode('server.ts')
    yield* serve(server, exportUrl(server, 'reply.csv', mixed, rows), 'read')
  }
}

export const clientsOfRuns: Measure = {
  name: 'runs: clients',
  async *run() {
    await using site = await RunsSite.start(cargoes + 10)
    await using worker = await site.startServer('worker.ts')
    await using server = await site.startServer('bench/runs-server.ts')
    const { result } = await site.ended(server, await site.makeRun(server, cargoes))
    yield* serve(server, `${server.url}${result?.href}`, 'read a kept file')
    void worker
  }
}

async function* serve(server: Server, url: string, doing: string): AsyncGenerator<Result> {
  // What the code itself takes once it has run is no client's.
  for (let run = 0; run < 3; run++) await download(url)
  const { now: idle } = await memory(server)
  const probe = await startProbe(`${server.url}/json`, 10)
  const serving = slowClients(url, count, bytesPerSecond)
  await sleep(14_000)
  const { p99, median, requests } = await probe.stop()
  const { whole, bytes } = await serving
  const { peak } = await memory(server)
  yield {
    what: `${count} clients that ${doing} at 100 kB/s at once: served whole`,
    value: whole,
    unit: '',
    goal: { atLeast: count },
    detail: `${(bytes / count / 1e6).toFixed(1)} MB each`
  }
  yield {
    what: 'their memory, each, beyond the idle server',
    value: (peak - idle) / count / 1024,
    unit: ' KiB',
    goal: { atMost: 256 },
    detail: `${((peak - idle) / 1e6).toFixed(0)} MB beyond ${(idle / 1e6).toFixed(0)} MB`
  }
  yield {
    what: "the JSON route's p99 meanwhile",
    value: p99,
    unit: ' ms',
    goal: { atMost: 25 },
    detail: `median ${median.toFixed(2)} ms of ${requests} requests`
  }
}
