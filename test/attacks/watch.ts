import { createHook } from 'node:async_hooks'
import { EventEmitter, once } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { PluginOptions, Receipt, SourceContext } from '../../plugins/csv-export/index.ts'
import { gate, serve, type TestServer } from '../helper.ts'

/** Limits that no test reaches, each of a length that no other timer has. */
const limits = { stallTimeout: 61_001, sourceTimeout: 61_003, maxDuration: 61_007, commitAfter: 61_009 }

export interface WatchedServer extends TestServer {
  receipts: Receipt[]
  /** The receipt of this number, past or to come. */
  receipt(number?: number): Promise<Receipt | 'nothing'>
  /** How many timers of exports wait. */
  timers(): number
}

/** A server of which a test sees what its exports say and leave behind. One of them may run at a time. */
export async function watch(
  t: Test,
  routes: (app: FastifyInstance) => unknown,
  { defaults, ...options }: { defaults?: PluginOptions; http2?: boolean; server?: object } = {}
): Promise<WatchedServer> {
  const receipts: Receipt[] = []
  const told = new EventEmitter()
  const server = await serve(t, routes, {
    ...options,
    defaults: {
      ...limits,
      maxConcurrent: 1,
      ...defaults,
      onReceipt(receipt, request) {
        receipts.push(receipt)
        told.emit('receipt')
        return defaults?.onReceipt?.(receipt, request)
      }
    }
  })
  return {
    ...server,
    receipts,
    async receipt(number = 0) {
      while (receipts[number] === undefined) {
        if ((await soon(once(told, 'receipt'))) === 'nothing') return 'nothing'
      }
      return receipts[number] as Receipt
    },
    timers: countTimers(t)
  }
}

function countTimers(t: Test): () => number {
  const lengths = new Set<number | undefined>(Object.values(limits))
  const timers = new Set<{ _idleTimeout?: number; _destroyed?: boolean }>()
  const hook = createHook({
    init(_id, type, _trigger, resource) {
      if (type === 'Timeout') timers.add(resource)
    }
  }).enable()
  t.teardown(() => hook.disable())
  return () => {
    for (const timer of timers) {
      if (timer._destroyed === true || !lengths.has(timer._idleTimeout)) timers.delete(timer)
    }
    return timers.size
  }
}

/** What comes; `nothing` if it does not in time, so that a test says what is missing where it would wait for good. */
export async function soon<T>(promise: Promise<T>, milliseconds = 1_000): Promise<T | 'nothing'> {
  let timer: NodeJS.Timeout | undefined
  const nothing = new Promise<'nothing'>((resolve) => {
    timer = setTimeout(() => resolve('nothing'), milliseconds)
  })
  try {
    return await Promise.race([promise, nothing])
  } finally {
    clearTimeout(timer)
  }
}

/** Whether the condition holds, within some time. */
export async function becomes(condition: () => boolean, milliseconds = 1_000): Promise<boolean> {
  const deadline = performance.now() + milliseconds
  while (!condition()) {
    if (performance.now() > deadline) return false
    await turn()
  }
  return true
}

/** Rows at each pace at which somebody may leave. */
export type Pace = 'before the first row' | 'between two rows' | 'while writes wait'
export const paces: Pace[] = ['before the first row', 'between two rows', 'while writes wait']

/** A source that never ends by itself, and tells what it is told. */
export function endless(pace: Pace) {
  const opened = gate<AbortSignal>()
  const released = gate<unknown>()
  async function* rows({ signal }: SourceContext): AsyncGenerator<{ text: string }> {
    opened.open(signal)
    try {
      if (pace === 'between two rows') yield { text: 'one' }
      while (pace === 'while writes wait') {
        yield { text: 'x'.repeat(60_000) }
        await turn()
      }
      if (!signal.aborted) await once(signal, 'abort')
    } finally {
      released.open(signal.reason)
    }
  }
  return { rows, opened: opened.opened, released: released.opened }
}
