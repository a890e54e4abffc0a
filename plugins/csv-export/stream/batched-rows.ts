/** What gives rows, or pieces of text, in batches. */
export interface Batches<T> {
  /** The next ones; none at the end. Called first when the first of them is asked for, and then one call at a time. */
  read(): Promise<readonly T[]>
  /** Most of what `read()` gave has been taken, so that the next call of it is near. */
  readAhead?(): void
  /**
   * Lets go before the end, at once: a `read()` that is under way rejects with the reason, and none comes after it.
   * @param reason of the signal; undefined where nobody waits for an answer any more
   */
  end(reason: unknown): void
}

type Step<T> = IteratorResult<T, undefined>

const done = { done: true, value: undefined } as const

/**
 * What comes in batches, one by one, once. What is there already is given at once, not as a promise: an await for each row
 * would cost 75 ns.
 */
export class BatchedRows<T> implements AsyncIterable<T> {
  readonly #batches: Batches<T>
  readonly #signal: AbortSignal | undefined
  #isStarted = false
  /** What is left of the batch, the next one last: what is taken is held here no longer. */
  #rest: T[] = []
  /** How many are left when the next batch is asked for. */
  #aheadAt = 0
  #stopped: { reason: unknown } | undefined
  #ended = false
  /** Calls of `next()` that had to wait and have no answer yet, and the last of them. */
  #waiting = 0
  #lastWait: Promise<unknown> | undefined

  /** @param signal ends it at once, as `return()` does; `next()` then rejects with its reason */
  constructor(batches: Batches<T>, signal: AbortSignal | undefined) {
    this.#batches = batches
    this.#signal = signal
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    // The language awaits what `next()` gives, promise or not; its type asks for one.
    return this as unknown as AsyncIterator<T>
  }

  next(): Step<T> | Promise<Step<T>> {
    if (this.#waiting === 0 && this.#rest.length > 0) return this.#take()
    const step = this.#wait()
    // Without what it gave: a row that has been taken is held no longer.
    this.#lastWait = step.then(ignore, ignore)
    return step
  }

  /** Lets go at once, also while a `next()` is pending, which is then done. */
  return(): Promise<Step<T>> {
    this.#stop(undefined)
    this.#finish()
    return Promise.resolve(done)
  }

  #take(): Step<T> {
    const value = this.#rest.pop() as T
    if (this.#rest.length <= this.#aheadAt) {
      this.#aheadAt = -1
      this.#batches.readAhead?.()
    }
    return { done: false, value }
  }

  async #wait(): Promise<Step<T>> {
    this.#waiting++
    try {
      await this.#lastWait
      while (this.#rest.length === 0 && !this.#ended) await this.#advance()
      return this.#ended ? done : this.#take()
    } catch (error) {
      const isLeft = this.#ended
      this.#finish()
      if (!isLeft) throw error
    } finally {
      this.#waiting--
    }
    return done
  }

  async #advance(): Promise<void> {
    if (!this.#isStarted) this.#start()
    this.#throwIfStopped()
    const batch = await this.#batches.read()
    // It may have come all the same.
    this.#throwIfStopped()
    if (batch.length === 0) this.#finish()
    this.#rest = batch.toReversed()
    this.#aheadAt = Math.ceil(batch.length / 4)
  }

  #start(): void {
    this.#isStarted = true
    this.#signal?.throwIfAborted()
    this.#signal?.addEventListener('abort', this.#onAbort)
  }

  #throwIfStopped(): void {
    if (this.#stopped !== undefined) throw this.#stopped.reason
  }

  readonly #onAbort = (): void => this.#stop(this.#signal?.reason)

  #stop(reason: unknown): void {
    this.#stopped = { reason }
    this.#rest = []
    this.#batches.end(reason)
  }

  #finish(): void {
    this.#ended = true
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }
}

function ignore(): void {}
