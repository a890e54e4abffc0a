import type { EventEmitter } from 'node:events'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** What a process holds when nothing is under way. */
export interface Held {
  /** Bytes after a garbage collection. */
  heap: number
  external: number
  listeners: Record<string, number>
  resources: string[]
  warnings: string[]
}

const warnings: string[] = []
process.on('warning', (warning) => warnings.push(warning.stack ?? warning.message))
setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

export async function held(): Promise<Held> {
  // The other side of a connection may still have to answer its farewell.
  const deadline = performance.now() + 5_000
  while (process.getActiveResourcesInfo().includes('TCPSocketWrap') && performance.now() < deadline) {
    await sleep(5)
  }
  for (let passed = 0; passed < 20; passed++) {
    await turn()
    collectGarbage()
  }
  const { heapUsed, external } = process.memoryUsage()
  const resources = process.getActiveResourcesInfo().toSorted()
  return { heap: heapUsed, external, listeners: listenerCounts(process), resources, warnings }
}

export function listenerCounts(emitter: EventEmitter): Record<string, number> {
  return Object.fromEntries(emitter.eventNames().map((name) => [String(name), emitter.listenerCount(name)]))
}
