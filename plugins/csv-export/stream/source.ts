import { describe, isPromiseLike } from '../describe.ts'
import { CSV_EXPORT_INVALID_BATCH, CSV_EXPORT_INVALID_ROWS, CSV_EXPORT_SOURCE_USED } from '../errors.ts'
import { claim, isUsed } from './streams.ts'

/** What a function given as a source is called with. */
export interface SourceContext {
  /** Fires as soon as the client is gone or the export has failed: stop waiting, close what is open. */
  signal: AbortSignal
}

type Items<T> = Iterable<T> | AsyncIterable<T>

/** Items to stream, or a function that opens them: it is called only when the body is wanted. */
export type SourceInput<T> = Items<T> | ((context: SourceContext) => Items<T> | Promise<Items<T>>)

/** undefined is an empty batch: there may be another one. */
type Step<T> = IteratorResult<T> | undefined

interface Batches<T> {
  next(): IteratorResult<readonly T[]> | PromiseLike<IteratorResult<readonly T[]>>
}

/**
 * One pass over the items of a source, with one way to let go of it.
 * Whatever the items' own code does, `release()` neither throws nor rejects.
 */
export class Source<T> {
  #input: SourceInput<T> | undefined
  #iterator: Iterator<T> | AsyncIterator<T> | undefined
  #released = false
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
    this.release()
    throw new CSV_EXPORT_SOURCE_USED(name)
  }

  /**
   * Opens the items. Called once, before the first `next()`.
   * @param inBatches whether what is iterated are arrays of items
   */
  async open(signal: AbortSignal, inBatches: boolean): Promise<void> {
    this.#inBatches = inBatches
    const input = this.#input as SourceInput<T>
    const items = typeof input === 'function' ? await input({ signal }) : input
    if (!isItems(items)) throw new CSV_EXPORT_INVALID_ROWS(this.#name, describe(items))
    guard(items)
    this.#input = items
    // The client may have left while the function was still opening its items.
    if (this.#released) this.#letGo()
    else if (isUsed(items)) throw new CSV_EXPORT_SOURCE_USED(this.#name)
    else {
      claim(items)
      this.#iterator = iterate(items)
    }
  }

  /** The names that what is iterated has for its columns, as rows out of a database have: `columns`, an array of strings. */
  get columns(): readonly string[] | undefined {
    const { columns } = this.#input as { columns?: unknown }
    return Array.isArray(columns) && columns.length > 0 && columns.every((name) => typeof name === 'string')
      ? columns
      : undefined
  }

  /** The next item: at once from a synchronous iterable or from a batch, else a promise. */
  next(): Step<T> | PromiseLike<Step<T>> {
    if (!this.#inBatches) return (this.#iterator as Iterator<T>).next()
    if (this.#batchIndex < this.#batch.length) return this.#nextOfBatch()
    const step = (this.#iterator as unknown as Batches<T>).next()
    return isPromiseLike(step) ? step.then(this.#openBatch) : this.#openBatch(step)
  }

  #nextOfBatch(): IteratorResult<T> {
    return { done: false, value: this.#batch[this.#batchIndex++] as T }
  }

  readonly #openBatch = (step: IteratorResult<readonly T[]>): Step<T> => {
    if (step.done) return step
    this.#batchCount++
    if (!Array.isArray(step.value)) throw new CSV_EXPORT_INVALID_BATCH(this.#batchCount, describe(step.value))
    this.#batch = step.value
    this.#batchIndex = 0
    return step.value.length === 0 ? undefined : this.#nextOfBatch()
  }

  /** Ends the items early: `return()` on a started iterator; `return()`, `destroy()` or `cancel()` on unstarted items. */
  release(): void {
    if (this.#released) return
    this.#released = true
    this.#letGo()
  }

  #letGo(): void {
    const input = this.#input as Releasable | (() => unknown)
    if (this.#iterator !== undefined) {
      this.#attempt(this.#iterator as Releasable, (iterator) => iterator.return)
      // A stream's iterator answers `return()` only after its pending `next()`, which may be never.
      this.#attempt(input as Releasable, (items) => items.destroy)
    } else if (typeof input !== 'function') {
      this.#attempt(input, (items) => items.return ?? items.destroy ?? items.cancel)
    }
  }

  #attempt(owner: Releasable, choose: (owner: Releasable) => (() => unknown) | undefined): void {
    try {
      const result = choose(owner)?.call(owner)
      // Not awaited: a generator that waits for something runs its `finally` only after that wait.
      if (isPromiseLike(result)) result.then(undefined, this.#onReleaseError)
    } catch (error) {
      this.#onReleaseError(error)
    }
  }
}

interface Releasable {
  return?(): unknown
  destroy?(): unknown
  cancel?(): unknown
}

function isItems(value: unknown): value is Items<unknown> {
  if (value === null || typeof value !== 'object') return false
  const items = value as Partial<Iterable<unknown> & AsyncIterable<unknown>>
  return typeof items[Symbol.asyncIterator] === 'function' || typeof items[Symbol.iterator] === 'function'
}

function iterate<T>(items: Items<T>): Iterator<T> | AsyncIterator<T> {
  if (items instanceof ReadableStream) {
    // Its own iterator would keep a pending read from being cancelled.
    const reader = items.getReader()
    return { next: () => reader.read(), return: () => reader.cancel() } as unknown as AsyncIterator<T>
  }
  const { [Symbol.asyncIterator]: asynchronous } = items as AsyncIterable<T>
  return asynchronous ? asynchronous.call(items) : (items as Iterable<T>)[Symbol.iterator]()
}

/** An 'error' event of a stream that nobody iterates yet, or any more, must not end the process. */
function guard(items: unknown): void {
  const { on } = items as { on?: (event: string, listener: () => void) => void }
  if (typeof on === 'function') on.call(items, 'error', () => {})
}
