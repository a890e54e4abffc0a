import type { FastifyReply } from 'fastify'
import { isOpen, type RunRow, type Runs } from '../table/runs.ts'
import type { RunWatch } from '../watch.ts'

/** Seconds: what a client may have itself wait, as proxies cut silent connections. */
export const longestWait = 60

/** Those who wait for the end of a run. */
export class Waiting {
  readonly #runs: Pick<Runs, 'get'>
  readonly #watch: RunWatch
  readonly #closing = new AbortController()

  constructor(runs: Pick<Runs, 'get'>, watch: RunWatch) {
    this.#runs = runs
    this.#watch = watch
  }

  /** The server closes: nobody waits any more. */
  close(): void {
    this.#closing.abort()
  }

  /**
   * @param seconds to wait at most
   * @param gone whether the client is
   * @returns the run as it is then; nothing if it has been removed
   */
  async settled(run: RunRow, seconds: number, gone: AbortSignal): Promise<RunRow | undefined> {
    const over = AbortSignal.any([gone, this.#closing.signal])
    if (seconds === 0 || !isOpen(run) || over.aborted) return run
    const { promise, resolve } = Promise.withResolvers<void>()
    const end = (): void => resolve()
    const unwatch = this.#watch.watch(run.id, (now) => {
      if (now === undefined || !isOpen(now)) end()
    })
    const timer = setTimeout(end, Math.min(seconds, longestWait) * 1_000)
    over.addEventListener('abort', end)
    await promise
    clearTimeout(timer)
    over.removeEventListener('abort', end)
    unwatch()
    return gone.aborted ? run : await this.#runs.get(run.id)
  }
}

/** Fires when the client leaves; asked for before anything is awaited. */
export function goneOf({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController()
  raw.once('close', () => gone.abort())
  return gone.signal
}
