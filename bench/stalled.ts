import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startEmbeddedPostgres } from '../database/embedded-postgres.ts'
import { prepareDatabase } from '../database/prepare.ts'
import { type ContentCoding, contentCodings } from '../plugins/csv-export/options/http.ts'

/** KiB of the server's process that one stalled client holds; what the kernel buffers is none of them. */
export interface StalledFigures {
  source: Source
  clients: number
  rss: number
  heap: number
  external: number
}

type Source = 'generator' | 'cursor' | ContentCoding

/** The goal: what a stalled client may hold, in KiB of resident memory. */
export function mostKiB(source: Source): number {
  if (source === 'generator') return 128
  // A batch of rows, and a connection's buffers.
  if (source === 'cursor') return 320
  // The coder's state, and what it has made of a chunk.
  return 448
}

/** Clients that ask for an endless report and never read, against a server of their own. */
export async function* measureStalled(): AsyncGenerator<StalledFigures> {
  const folder = await mkdtemp(join(tmpdir(), 'csv-export-'))
  const { url, stop } = await startEmbeddedPostgres({ folder })
  try {
    await prepareDatabase(url, { rows: 20_000 })
    yield await measure('generator', 500)
    // PostgreSQL's own default is 100 connections, some of which are reserved.
    yield await measure('cursor', 90, url)
    for (const coding of contentCodings) yield await measure(coding, 200)
  } finally {
    await stop()
    await rm(folder, { recursive: true, force: true })
  }
}

/**
 * Has malloc give back at once what is freed. Else it keeps what was in use at the busiest moment: a tenth to a third of these
 * figures, and another part each time.
 */
const givingBack = { MALLOC_MMAP_THRESHOLD_: '8192' }

async function measure(source: Source, clients: number, databaseUrl?: string): Promise<StalledFigures> {
  const options = databaseUrl === undefined ? [] : [databaseUrl, String(clients)]
  const server = fork(new URL('./stalled-server.ts', import.meta.url), options, {
    env: { ...process.env, ...givingBack }
  })
  const [origin] = await once(server, 'message')
  // Some that read, and then leave, have the server set up what it keeps for good: for a pool as many as it can have. The
  // memory of as many coders would be kept for those to come, who would seem to need none.
  const readers = await ask(origin, `/${source}?rows=1000`, isCoding(source) ? 20 : clients)
  for (const socket of readers) socket.resume()
  await memoryOf(server)
  for (const socket of readers) socket.destroy()
  const before = await memoryOf(server)
  const stalled = await ask(origin, `/${source}`, clients)
  const during = await memoryOf(server)
  for (const socket of stalled) socket.destroy()
  server.kill()
  await once(server, 'exit')
  const perClient = (what: keyof NodeJS.MemoryUsage) => (during[what] - before[what]) / clients / 1024
  return {
    source,
    clients,
    rss: perClient('rss'),
    heap: perClient('heapUsed'),
    external: perClient('external')
  }
}

const isCoding = (source: string): boolean => contentCodings.some((coding) => coding === source)

async function ask(origin: string, path: string, count: number): Promise<Socket[]> {
  const { hostname, port } = new URL(origin)
  const sockets = Array.from({ length: count }, () => connect(Number(port), hostname).pause())
  for (const socket of sockets) {
    await (socket.connecting && once(socket, 'connect'))
    socket.on('error', () => {})
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: *\r\n\r\n`)
  }
  return sockets
}

async function memoryOf(server: ChildProcess): Promise<NodeJS.MemoryUsage> {
  server.send('measure')
  return (await once(server, 'message'))[0]
}

if (import.meta.main) {
  const figures: StalledFigures[] = []
  for await (const each of measureStalled()) figures.push(each)
  console.table(
    figures.map(({ source, clients, rss, heap, external }) => ({
      source,
      clients,
      'RSS, KiB each': rss.toFixed(1),
      'goal, at most': mostKiB(source),
      'heap, KiB each': heap.toFixed(1),
      'external, KiB each': external.toFixed(1)
    }))
  )
  process.exitCode = figures.every(({ source, rss }) => rss <= mostKiB(source)) ? 0 : 1
}
