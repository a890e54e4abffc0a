import { download } from './clients.ts'
import type { Bench } from './measuring.ts'
import { differences } from './outputs.ts'
import { startDjango, startGo } from './peer-servers.ts'
import { exportUrl, NotFound, type Server, startNode } from './servers.ts'
import { mixed, type Shape, shapes } from './shapes.ts'

/** A way of ours, and one that it is compared with. */
export interface Pair {
  way: string
  peer: string
  /** Ratio of their rows/s. */
  atLeast?: number | undefined
}

export const ours = 'reply.csv'
export const go = 'Go, encoding/csv and net/http'
export const django = 'Django under gunicorn'

const programs: Record<string, () => Promise<Server>> = { [go]: startGo, [django]: startDjango }

/** Seconds of a download of the shape by each way; a way that is not on this machine is left out. */
export async function race(bench: Bench, shape: Shape, pairs: Pair[]): Promise<Record<string, number>> {
  await using servers = new AsyncDisposableStack()
  // What the others are compared with.
  const reference = servers.use(await startNode('server.ts'))
  const runs: Record<string, () => Promise<number>> = {}
  for (const way of new Set(pairs.flatMap(({ way, peer }) => [way, peer]))) {
    // In a server of its own, so that no way pays for another's garbage.
    const server = await start(way)
    if (server === undefined) continue
    servers.use(server)
    // A real server has served other reports before.
    for (const other of way in programs ? [mixed] : shapes)
      await download(exportUrl(server, way, other, 5000))
    const [expected, found] = [exportUrl(reference, ours, shape, 1000), exportUrl(server, way, shape, 1000)]
    bench.notes.push(...(await differences(`${way}, ${shape.name}`, expected, found)))
    runs[way] = async () => (await download(exportUrl(server, way, shape))).seconds
  }
  return await bench.times(runs)
}

async function start(way: string): Promise<Server | undefined> {
  try {
    return await (programs[way]?.() ?? startNode('server.ts'))
  } catch (error) {
    if (error instanceof NotFound && way in programs) return undefined
    throw error
  }
}
