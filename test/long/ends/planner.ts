import { values } from '../../attacks/subjects/values.ts'
import { seededRandom } from '../random.ts'
import type { Asked, Cause, Plan, Scene, SceneKind, Shape } from './plans.ts'

/** Those that need no more memory the longer the file is. */
const hooks = [
  'a tee',
  'a slow tee',
  'two tees',
  'a tee beside a stage',
  'a tee behind a stage',
  "a tee of 'data'",
  'pipe',
  'two stages of pipe',
  'pipeline',
  'compose',
  'toWeb',
  'Readable.from',
  'an async generator'
]

const endsOfBoth = ['raw.destroy()', 'raw.destroy(error)', 'raw.end()', 'raw.end(text)']
const endsOfHttp1 = [
  ...endsOfBoth,
  'request.raw.destroy()',
  'socket.end()',
  'socket.end(text)',
  'socket.destroy()',
  'socket.destroy(error)',
  'socket.destroySoon()',
  'socket.resetAndDestroy()',
  'socket.setTimeout()',
  'raw.setTimeout()',
  'request.raw.setTimeout()'
]
const endsOfHttp2 = [
  ...endsOfBoth,
  'stream.close()',
  'stream.close(CANCEL)',
  'stream.destroy()',
  'stream.destroy(error)',
  'stream.end()',
  'session.destroy()',
  'session.destroy(error)'
]

const synchronous: Shape[] = ['generator', 'batches']
const shapes: Shape[] = [
  ...synchronous,
  'async generator',
  'async batches',
  'iterator',
  'stream',
  'web stream'
]

const often = <T>(what: T, times: number): T[] => Array<T>(times).fill(what)

const others: Cause[] = [
  'throw',
  'throw',
  'maxRows',
  'maxDuration',
  'sourceStalls',
  'stall',
  'ended',
  'replaced',
  'head'
]

const causes: Record<SceneKind, Cause[]> = {
  alone: [...often('complete' as Cause, 4), ...often('leave' as Cause, 6), ...others, 'ended'],
  'HTTP/1.0': ['complete', 'complete', 'leave', 'leave', 'throw', 'throw', 'maxRows', 'maxDuration', 'ended'],
  kept: [...often('complete' as Cause, 8), 'throw', 'maxRows', 'replaced', 'leave'],
  pipelined: [...often('complete' as Cause, 8), 'throw', 'maxRows', 'ended', 'replaced'],
  session: [...often('complete' as Cause, 5), ...often('leave' as Cause, 8), ...others],
  injected: ['complete', 'complete', 'leave', 'leave', 'leave', 'throw', 'maxRows', 'maxDuration', 'stall']
}

/** Node's own adapter of a web stream, which a hook may use, reads the code again, where nobody catches what that throws. */
const ofNode = new Set(['an Error whose code is a getter that throws from the second time on'])

/** Plans scenes at random, the same ones for the same seed. */
export class Planner {
  readonly #random: () => number
  readonly #servers: Record<SceneKind, string[]>

  /** @param isTlsServed whether there are servers with TLS */
  constructor(seed: number, isTlsServed: boolean) {
    this.#random = seededRandom(seed)
    const http1 = ['http1', 'http1', 'timed', ...(isTlsServed ? ['tls'] : [])]
    const http2 = ['http2', 'http2', ...(isTlsServed ? ['http2-tls'] : [])]
    this.#servers = {
      alone: http1,
      'HTTP/1.0': http1,
      kept: http1,
      pipelined: http1,
      session: http2,
      injected: ['http1']
    }
  }

  upTo(limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  #oneOf<T>(list: readonly T[]): T {
    return list[this.upTo(list.length)] as T
  }

  #is(probability: number): boolean {
    return this.#random() < probability
  }

  scene(name: string, underWayAtClose: boolean): Scene {
    const kinds: SceneKind[] = ['alone', 'alone', 'HTTP/1.0', 'kept', 'pipelined', 'session', 'injected']
    const kind = this.#oneOf(kinds)
    const count = ['kept', 'pipelined', 'session'].includes(kind) ? 2 + this.upTo(5) : 1
    const plans = Array.from({ length: count }, (_, index) =>
      this.#plan(`${name}-${index}`, kind, underWayAtClose)
    )
    return {
      kind,
      server: this.#oneOf(this.#servers[kind]),
      plans,
      leave: this.#is(0.3) ? this.#leaveOf(kind) : 'not',
      code: this.upTo(14),
      bytes: this.upTo(400_000),
      underWayAtClose
    }
  }

  #leaveOf(kind: SceneKind): Scene['leave'] {
    if (kind === 'session') {
      return this.#oneOf(['destroy', 'reset', 'session.close', 'session.destroy', 'goaway'])
    }
    return kind === 'pipelined' || kind === 'HTTP/1.0'
      ? this.#oneOf(['destroy', 'half-close', 'reset'])
      : 'not'
  }

  #plan(id: string, kind: SceneKind, underWayAtClose: boolean): Plan {
    const cause = underWayAtClose && this.#is(0.6) ? 'closing' : this.#oneOf(causes[kind])
    const end = cause === 'ended' ? this.#oneOf(kind === 'session' ? endsOfHttp2 : endsOfHttp1) : undefined
    const then = this.#then(cause, end)
    const mayBeSynchronous = then !== 'wait'
    const rows = this.#is(0.2) ? this.upTo(3) : this.upTo(4_000)
    const isCoded = !['stall', 'replaced'].includes(cause) && this.#is(0.25)
    return {
      id,
      cause,
      shape: this.#oneOf(mayBeSynchronous ? shapes : shapes.slice(synchronous.length)),
      rows,
      then,
      value: this.#oneOf([...Object.keys(values).filter((name) => !ofNode.has(name)), 'a string']),
      release: this.#is(0.7) ? 'quiet' : this.#oneOf(['throws', 'rejects']),
      pause: this.#is(0.5) ? 0 : 1 + this.upTo(500),
      emptyBatches: this.#is(0.7) ? 0 : this.#is(0.1) ? 5_000 : this.upTo(50),
      hook: cause === 'replaced' ? 'replaces' : this.#is(0.3) ? this.#oneOf(hooks) : undefined,
      end,
      limits: this.#limits(cause),
      bytes: this.#is(0.6) ? this.#bytes(rows, then, isCoded) : undefined,
      turns: this.upTo(100),
      reset: this.#oneOf([...Array(14).keys(), 99, 'destroy()', 'destroy(error)']),
      coding: isCoded ? this.#oneOf(['gzip', 'br', 'zstd']) : undefined,
      trailers: this.#is(0.3)
    }
  }

  /** Of what waits for its client to leave, so many have to come. */
  #bytes(rows: number, then: Asked['then'], isCoded: boolean): number | undefined {
    if (then === 'wait') return isCoded || rows === 0 ? undefined : this.upTo(rows * 40)
    // What is coded is a small part of what is made.
    return this.upTo(isCoded ? 15_000 : 300_000)
  }

  #then(cause: Cause, end: string | undefined): Asked['then'] {
    if (cause === 'throw') return 'throw'
    if (cause === 'complete' || cause === 'replaced' || cause === 'head') return 'end'
    if (cause === 'sourceStalls' || end?.includes('setTimeout')) return 'wait'
    if (cause === 'maxRows' || cause === 'stall') return 'go on'
    if (cause === 'leave') return this.#oneOf(['go on', 'go on', 'wait', 'end'])
    return this.#oneOf(['go on', 'wait'])
  }

  #limits(cause: Cause): Asked['limits'] {
    if (cause === 'maxRows') return { maxRows: 1 + this.upTo(5_000) }
    if (cause === 'maxDuration') return { maxDuration: 1 + this.upTo(150) }
    if (cause === 'sourceStalls') return { sourceTimeout: 20 + this.upTo(100) }
    if (cause === 'stall') return { stallTimeout: 200 }
    return {}
  }
}
