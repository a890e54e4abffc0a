import { EventEmitter } from 'node:events'
import { describe, isPromiseLike } from '../describe.ts'
import {
  CSV_EXPORT_INVALID_BATCH,
  CSV_EXPORT_INVALID_ROWS,
  CSV_EXPORT_SOURCE_FAILED,
  CSV_EXPORT_SOURCE_USED
} from '../errors.ts'
import { ofThisExport, toError } from '../guard.ts'
import {
  claim,
  isClaimed,
  isCutShort,
  isIterator,
  isNodeStream,
  isUsed,
  isWebStream,
  type NodeStream
} from './streams.ts'

/** What a function given as a source is called with. */
export interface SourceContext {
  /** Fires as soon as the client is gone or the export has failed: stop waiting, close what is open. */
  signal: AbortSignal
  /** What the option `viewer` has made of the request, or is. */
  viewer?: any
}

type Items<T> = Iterable<T> | AsyncIterable<T>

/** Items to stream, or a function that opens them: it is called only when the body is wanted. */
export type SourceInput<T> = Items<T> | ((context: SourceContext) => Items<T> | Promise<Items<T>>)

/** A step without an item: there may be another one. */
export const emptyBatch: IteratorYieldResult<never> = { done: false, value: undefined as never }

/** In the place of an iterator that is over: there is nothing to return. */
const over = {} as Iterator<never>

interface Batches<T> {
  next(): IteratorResult<readonly T[]> | PromiseLike<IteratorResult<readonly T[]>>
}

/**
 * One pass over the items of a source, with one way to let go of it.
 * Whatever the items' own code does, `release()` neither throws nor rejects.
 */
export class Source<T> {
  #input: SourceInput<T>
  #iterator: Iterator<T> | AsyncIterator<T> | undefined
  /** Whether it has been asked for a step, and has neither given nor refused it. */
  #isAsked = false
  #released = false
  #reason: unknown
  readonly #name: string
  readonly #onReleaseError: (error: unknown) => void
  #inBatches = false
  #batch: readonly T[] = []
  #batchIndex = 0
  #batchCount = 0

  /**
   * @param name what a message calls the argument
   * @param onReleaseError told what the source's own clean-up throws
   */
  constructor(
    name: string,
    input: SourceInput<T> | SourceInput<readonly T[]>,
    onReleaseError: (error: unknown) => void
  ) {
    if (typeof input !== 'function' && !isItems(input)) {
      throw new CSV_EXPORT_INVALID_ROWS(name, describe(input))
    }
    this.#name = typeof input === 'function' ? 'what the rows function returns' : name
    this.#input = input as SourceInput<T>
    this.#onReleaseError = onReleaseError
    guard(input)
    if (typeof input === 'function' || !isUsed(input)) return
    const error = new CSV_EXPORT_SOURCE_USED(name)
    this.release(error)
    throw error
  }

  /**
   * Opens the items. Called once, before the first `next()`.
   * @param context what a function is called with
   * @param inBatches whether what is iterated are arrays of items
   */
  async open(context: SourceContext, inBatches: boolean): Promise<void> {
    this.#inBatches = inBatches
    const input = this.#input
    if (typeof input === 'function') {
      // A stream that it gives may have failed already. That is emitted in the next tick, which comes after all microtasks,
      // but ahead of them in a turn that the network or a timer began: nobody would listen yet.
      await undefined
      if (this.#released) return
    }
    const items = typeof input === 'function' ? await input(context) : input
    if (!isItems(items)) throw new CSV_EXPORT_INVALID_ROWS(this.#name, describe(items))
    if (items !== input) guard(items)
    this.#input = items
    // The client may have left while the function was still opening its items.
    if (this.#released) this.#letGo()
    else this.#iterator = this.#claim(items)
  }

  /** The names that what is iterated has for its columns, as rows out of a database have: `columns`, an array of strings. */
  get columns(): readonly string[] | undefined {
    const { columns } = this.#input as { columns?: unknown }
    return Array.isArray(columns) && columns.length > 0 && columns.every((name) => typeof name === 'string')
      ? columns
      : undefined
  }

  /** The next item: at once from a synchronous iterable or from a batch, else a promise. */
  next(): IteratorResult<T> | PromiseLike<IteratorResult<T>> {
    if (this.#batchIndex < this.#batch.length) return this.#nextOfBatch()
    this.#isAsked = true
    if (!this.#inBatches) return (this.#iterator as Iterator<T>).next()
    const step = (this.#iterator as unknown as Batches<T>).next()
    return isPromiseLike(step) ? Promise.resolve(step).then(this.#openBatch) : this.#openBatch(step)
  }

  /** A step has come. */
  setAnswered(): void {
    this.#isAsked = false
  }

  /**
   * What was asked for the items, or for a step, has failed. As in a loop of the language, an iterator is over then.
   * @returns what is to be told of it
   */
  setFailed(error: unknown): unknown {
    if (this.#isAsked) this.#iterator = over
    return ofThisExport(error)
  }

  #nextOfBatch(): IteratorResult<T> {
    return { done: false, value: this.#batch[this.#batchIndex++] as T }
  }

  readonly #openBatch = (step: IteratorResult<readonly T[]>): IteratorResult<T> => {
    this.setAnswered()
    // What is no step at all is refused with all other steps.
    if (Object(step) !== step || step.done) return step as IteratorReturnResult<unknown>
    // Whatever it is, nobody wants it any more.
    if (this.#released) return emptyBatch
    this.#batchCount++
    if (!Array.isArray(step.value)) throw new CSV_EXPORT_INVALID_BATCH(this.#batchCount, describe(step.value))
    this.#batch = step.value
    this.#batchIndex = 0
    return step.value.length === 0 ? emptyBatch : this.#nextOfBatch()
  }

  #claim(items: Items<T>): Iterator<T> | AsyncIterator<T> {
    const used = () => new CSV_EXPORT_SOURCE_USED(this.#name)
    if (isUsed(items)) throw used()
    const iterator = this.#iterate(items)
    // Other items may have given it before.
    if (isUsed(iterator)) throw used()
    for (const claimed of [items, iterator]) claim(claimed)
    return iterator
  }

  #iterate(items: Items<T>): Iterator<T> | AsyncIterator<T> {
    if (isWebStream(items)) {
      // Its own iterator would keep a pending read from being cancelled.
      const reader = items.getReader()
      return {
        next: () => reader.read() as Promise<IteratorResult<T>>,
        return: () => reader.cancel(this.#reason) as Promise<never>
      }
    }
    const { [Symbol.asyncIterator]: asynchronous } = items as AsyncIterable<T>
    return asynchronous ? asynchronous.call(items) : (items as Iterable<T>)[Symbol.iterator]()
  }

  /** The items have ended by themselves: there is nothing to let go of. @throws if some of them are missing */
  end(): void {
    if (isCutShort(this.#input)) throw new CSV_EXPORT_SOURCE_FAILED('its stream was cut off before its end')
    this.#released = true
    unguard(this.#input)
  }

  /**
   * Ends the items early: `return()` on an iterator, and `destroy()` or `cancel()` on a stream. What else is iterable is
   * the user's own, and may have methods of these names that have nothing to do with an export.
   * @param reason what a stream is told
   */
  release(reason: unknown): void {
    if (this.#released) return
    this.#released = true
    this.#reason = reason
    this.#letGo()
  }

  /** A `next()` that was pending at the release has given an item: some iterators ignore the `return()` that came before. */
  releaseAgain(): void {
    // Behind the destroy() of a stream: its iterator would destroy it without the reason.
    if (isNodeStream(this.#input)) setImmediate(() => this.#return())
    else this.#return()
  }

  #letGo(): void {
    const input = this.#input
    this.#attempt(() => unguard(input))
    // Another export has it.
    if (this.#iterator === undefined && isClaimed(input)) return
    // A request that its reply is made of would end the connection in an orderly way if it were destroyed before the break. And
    // what Node composes of streams has no 'error' listener in the tick between its last row and its end.
    if (isNodeStream(input)) setImmediate(() => this.#destroy(input))
    else this.#return()
  }

  #destroy(stream: NodeStream): void {
    this.#attempt(() => stream.destroy?.(toError(this.#reason)))
    // Its iterator would destroy it without the reason, or after its pending `next()`.
    this.#return()
  }

  #return(): void {
    const iterator = this.#iterator
    this.#attempt(() => (iterator === undefined ? this.#returnUnstarted() : iterator.return?.()))
  }

  #returnUnstarted(): unknown {
    const input = this.#input
    if (isWebStream(input)) return input.cancel(this.#reason)
    if (!isIterator(input)) return undefined
    claim(input)
    return input.return?.()
  }

  #attempt(release: () => unknown): void {
    try {
      const result = release()
      // Not awaited: a generator that waits for something runs its `finally` only after that wait.
      if (isPromiseLike(result)) result.then(undefined, this.#onReleaseError)
    } catch (error) {
      this.#onReleaseError(error)
    }
  }
}

function isItems(value: unknown): value is Items<unknown> {
  if (value === null || typeof value !== 'object') return false
  const items = value as Partial<Iterable<unknown> & AsyncIterable<unknown>>
  return typeof items[Symbol.asyncIterator] === 'function' || typeof items[Symbol.iterator] === 'function'
}

function ignore(): void {}

/** An 'error' event of a stream that nobody iterates yet, or any more, must not end the process. */
function guard(items: unknown): void {
  if (!(items instanceof EventEmitter)) return
  items.on('error', ignore)
  // A response of `http.get()` that is destroyed with a reason has its request emit it.
  const { req } = items as { req?: unknown }
  if (req instanceof EventEmitter) req.on('error', ignore)
}

/** A stream, which is of no use to anybody else, may fail long after it was let go of. Another emitter may be shared. */
function unguard(items: unknown): void {
  if (items instanceof EventEmitter && !isNodeStream(items)) items.off('error', ignore)
}
