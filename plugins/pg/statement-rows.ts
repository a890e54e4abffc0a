import type pg from 'pg'
import { CSV_EXPORT_INVALID_OPTION } from './errors.ts'
import { Session } from './session.ts'

/** A statement that gives its rows, or pieces of text, in batches. */
export interface Statement<T> {
  /** Once known, the names of its columns. */
  readonly columns?: readonly string[] | undefined
  /** Sends it. What goes wrong between two reads, it tells the session. */
  start(session: Session): Promise<void>
  /** The next ones; none at the end. */
  read(): Promise<readonly T[]>
}

type Step<T> = IteratorResult<T, undefined>

const done = { done: true, value: undefined } as const
/** Why a session ends when `return()` is called. */
const returned = Symbol('returned')

/**
 * The rows of one statement, in a transaction of its own. The next batch is under way while the last one is used, and
 * never more. A row that is there already is given at once, not as a promise: an await for each row would cost 75 ns.
 */
export class StatementRows<T> implements AsyncIterable<T> {
  readonly #session: Session
  readonly #open: () => Promise<Statement<T>>
  readonly #signal: AbortSignal | undefined
  #statement: Statement<T> | undefined
  #nextBatch: Promise<readonly T[]> | undefined
  #batch: readonly T[] = []
  #index = 0
  #ended = false
  /** Calls of `next()` that had to wait and have no answer yet, and the last of them. */
  #waiting = 0
  #lastWait: Promise<unknown> | undefined

  /**
   * @param open makes the statement when the first row is asked for
   * @param signal ends it at once, as `return()` does; `next()` then rejects with its reason
   */
  constructor(pool: pg.Pool, open: () => Promise<Statement<T>>, signal: AbortSignal | undefined) {
    this.#session = new Session(pool)
    this.#open = open
    this.#signal = signal
  }

  get columns(): readonly string[] | undefined {
    return this.#statement?.columns
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    // The language awaits what `next()` gives, promise or not; its type asks for one.
    return this as unknown as AsyncIterator<T>
  }

  next(): Step<T> | Promise<Step<T>> {
    if (this.#waiting === 0 && this.#index < this.#batch.length) return this.#take()
    const step = this.#wait()
    this.#lastWait = step.catch(() => {})
    return step
  }

  /** Lets go at once, also while a `next()` is pending, which is then done. */
  return(): Promise<Step<T>> {
    this.#stop(returned)
    this.#finish()
    return Promise.resolve(done)
  }

  #take(): Step<T> {
    return { done: false, value: this.#batch[this.#index++] as T }
  }

  async #wait(): Promise<Step<T>> {
    this.#waiting++
    try {
      await this.#lastWait
      while (this.#index === this.#batch.length && !this.#ended) await this.#advance()
      return this.#ended ? done : this.#take()
    } catch (error) {
      this.#finish()
      if (error !== returned) throw error
    } finally {
      this.#waiting--
    }
    return done
  }

  async #advance(): Promise<void> {
    const statement = this.#statement ?? (await this.#start())
    const next = this.#nextBatch as Promise<readonly T[]>
    const batch = await next
    // Stopped while it was on its way.
    if (this.#nextBatch !== next) return
    if (batch.length === 0) {
      await this.#session.commit()
      this.#finish()
      return
    }
    this.#batch = batch
    this.#index = 0
    this.#expect(this.#session.ask(() => statement.read()))
  }

  async #start(): Promise<Statement<T>> {
    this.#signal?.throwIfAborted()
    this.#signal?.addEventListener('abort', this.#onAbort)
    const statement = await this.#open()
    this.#statement = statement
    await this.#session.begin()
    await statement.start(this.#session)
    this.#expect(this.#session.ask(() => statement.read()))
    return statement
  }

  #expect(batch: Promise<readonly T[]>): void {
    this.#nextBatch = batch
    // Nobody may be waiting for it yet.
    batch.catch(() => {})
  }

  readonly #onAbort = (): void => this.#stop(this.#signal?.reason)

  #stop(reason: unknown): void {
    this.#batch = []
    this.#index = 0
    this.#expect(Promise.reject(reason))
    this.#session.end(reason)
  }

  #finish(): void {
    this.#ended = true
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }
}

/** pg takes `undefined` for a statement that gives nothing, and something else would spoil what it sends next. */
export function checkText(text: unknown): void {
  if (typeof text !== 'string') throw new CSV_EXPORT_INVALID_OPTION('text', 'a string', text)
}
