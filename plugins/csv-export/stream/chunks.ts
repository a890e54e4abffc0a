import type { Encoder } from '../csv/encoder.ts'
import { describe, isPromiseLike } from '../describe.ts'
import { CSV_EXPORT_MAX_BYTES, CSV_EXPORT_MAX_ROWS, CSV_EXPORT_SOURCE_STALLED } from '../errors.ts'
import { guarded } from '../guard.ts'
import type { Heartbeat } from '../options/http.ts'
import type { ExportRecord } from '../receipts/record.ts'
import { Deadline } from './deadline.ts'
import { Joiner } from './joiner.ts'
import { emptyBatch, type Source } from './source.ts'
import { ownTurn, turnIfDue } from './turns.ts'

export interface ChunksOptions {
  /** Text is joined up to about this many bytes; 0 gives each item's text by itself. */
  chunkSize: number
  /** Whether the source gives arrays of items. */
  batches: boolean
  /** Whether a pause of the source gives what there is; else each chunk but the last is full. */
  flush: boolean
  /** Whether a mark is given at a pause, too, for a step that holds something back. */
  marks?: boolean
  /** Milliseconds after which what is known without a row is given, and a mark if that is nothing. */
  commitAfter?: number
  heartbeat?: Heartbeat | undefined
  /** What a function that opens the source is given. */
  viewer?: unknown
  /** These are milliseconds, rows and bytes; 0 is no limit. */
  sourceTimeout: number
  maxRows: number
  maxBytes: number
  /** Told of a failure when it comes, be there a reader or not. */
  onFailed?: (error: unknown) => void
}

/** An empty chunk: nothing more is to come right now, so what is held back should go on. */
export const mark: Buffer = Buffer.alloc(0)

/** Looking at the clock costs as much as a short row. Twice as many come before the next look, as long as there is time. */
const mostStepsBetweenLooks = 64

/** Milliseconds of one turn for a chunk: one that has to wait for another turn takes memory, so few must. */
const chunkTurn = 20

type Result = IteratorResult<Buffer, undefined>

/**
 * Items of a source, through an encoder, as chunks for one reader. Nothing is read ahead of it: its `next()` is the
 * backpressure. What is ready while nobody reads, a chunk or an error, is kept for the next `next()`.
 *
 * A class, as an async generator answers `return()` only after its pending `next()`, and gives nothing while it awaits.
 */
export class Chunks<T> implements AsyncIterableIterator<Buffer, undefined> {
  readonly #source: Source<T>
  readonly #encoder: Encoder<T>
  readonly #record: Pick<ExportRecord, 'bytes' | 'addMade'>
  readonly #options: ChunksOptions
  readonly #abort = new AbortController()
  readonly #sourceDeadline: Deadline
  readonly #silence: Deadline
  #commitTimer: NodeJS.Timeout | undefined
  #pauseCheck: NodeJS.Immediate | undefined
  #reader: PromiseWithResolvers<Result> | undefined
  /** What the source is doing: it rests until it is asked, gives items, has to be waited for, or is over. */
  #state: 'closed' | 'resting' | 'giving' | 'waiting' | 'ended' | 'stopped' = 'closed'
  #failure: { error: unknown } | undefined
  readonly #joiner: Joiner
  #isMarkDue = false

  /** @param record told each chunk that is given */
  constructor(
    source: Source<T>,
    encoder: Encoder<T>,
    record: Pick<ExportRecord, 'bytes' | 'addMade'>,
    options: ChunksOptions
  ) {
    this.#source = source
    this.#encoder = encoder
    this.#record = record
    this.#options = options
    this.#joiner = new Joiner(options.chunkSize)
    const { sourceTimeout, heartbeat } = options
    this.#sourceDeadline = new Deadline(sourceTimeout, () =>
      this.fail(new CSV_EXPORT_SOURCE_STALLED(sourceTimeout))
    )
    this.#silence = new Deadline(heartbeat?.every ?? 0, guarded(this.#sayHeartbeat, this.fail))
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<Result> {
    // One after the other, as an async generator answers them.
    if (this.#reader !== undefined) return this.#reader.promise.then(() => this.next())
    const reader = Promise.withResolvers<Result>()
    this.#reader = reader
    if (this.#joiner.isFull || this.#isOver()) this.#give()
    else if (this.#state === 'waiting') this.#checkForPause()
    else if (this.#state === 'closed') this.#open().then(this.#takeInTurn).catch(this.#failTaking)
    else if (this.#state === 'resting') this.#takeInTurn()
    return reader.promise
  }

  /** The reader wants no more: the source ends, and a pending `next()` is answered at once, whatever it is doing. */
  async return(): Promise<Result> {
    this.abandon()
    return { done: true, value: undefined }
  }

  /** @param reason what the source's signal is told */
  abandon(reason?: Error): void {
    this.#stop(reason)
  }

  /** Ends the source. A `next()`, pending or to come, rejects: to say 'done' would make a part look like the whole. */
  readonly fail = (error: unknown): void => {
    if (this.#state === 'stopped') return
    this.#failure = { error }
    this.#stop(error)
    this.#options.onFailed?.(error)
  }

  #stop(reason: unknown): void {
    if (this.#state === 'stopped') return
    const isSourceOver = this.#state === 'ended'
    this.#state = 'stopped'
    this.#joiner.clear()
    this.#stopTimers()
    if (!isSourceOver) {
      this.#abort.abort(reason)
      this.#source.release(this.#abort.signal.reason)
    }
    this.#give()
  }

  #stopTimers(): void {
    this.#sourceDeadline.stop()
    this.#silence.stop()
    clearTimeout(this.#commitTimer)
    clearImmediate(this.#pauseCheck)
  }

  /** A source that never waits would keep everything else waiting. A small file is made at once. */
  readonly #takeInTurn = (): void => {
    if (this.#isOver()) return
    this.#state = 'giving'
    const turn = this.#record.bytes > 0 ? ownTurn() : turnIfDue()
    Promise.resolve(turn).then(this.#take).catch(this.#failTaking)
  }

  /**
   * Takes items until there is a chunk for the reader.
   *
   * Waits for no turn before the first: what an async function holds that has waited for long is kept for long, too.
   */
  readonly #take = async (): Promise<void> => {
    if (this.#isOver()) return
    const { maxRows } = this.#options
    const [source, encoder, joiner] = [this.#source, this.#encoder, this.#joiner]
    let stepsBetweenLooks = 1
    let steps = 0
    // Without a reader, whom a pause or the end has given what there was, the next item is kept, and no more taken.
    while (this.#reader !== undefined && !joiner.isFull) {
      if (steps++ === stepsBetweenLooks) {
        const turn = turnIfDue(chunkTurn)
        // An await for nothing costs as much as a short row, too.
        if (turn !== undefined) await turn
        stepsBetweenLooks = turn === undefined ? Math.min(2 * stepsBetweenLooks, mostStepsBetweenLooks) : 1
        steps = 0
        continue
      }
      let step = source.next()
      if (isPromiseLike(step)) {
        // Its own code may have ended the export meanwhile.
        if (!this.#isStopped()) {
          this.#state = 'waiting'
          this.#checkForPause()
        }
        step = await step
        if (this.#state === 'waiting') this.#state = 'giving'
        this.#sourceDeadline.stop()
      }
      source.setAnswered()
      if (this.#isStopped()) {
        if (!step?.done) this.#source.releaseAgain()
        return
      }
      if (step === emptyBatch) continue
      if (typeof step !== 'object' || step === null) throw noStep(step)
      if (step.done) this.#end()
      else joiner.add(encoder.encode(step.value))
      // Encoded rows may leave their last one open until the end.
      if (maxRows !== 0 && encoder.count > maxRows) throw new CSV_EXPORT_MAX_ROWS(maxRows)
      if (step.done) break
    }
    if (this.#state === 'giving') this.#state = 'resting'
    this.#give()
  }

  readonly #failTaking = (error: unknown): void => {
    this.fail(this.#source.setFailed(error))
  }

  async #open(): Promise<void> {
    const { batches, commitAfter, viewer } = this.#options
    this.#state = 'waiting'
    if (commitAfter !== undefined) {
      this.#commitTimer = setTimeout(guarded(this.#commit, this.fail), commitAfter)
    }
    this.#silence.start()
    this.#sourceDeadline.start()
    await this.#source.open({ signal: this.#abort.signal, viewer }, batches)
    this.#sourceDeadline.stop()
  }

  #end(): void {
    this.#source.end()
    this.#joiner.add(this.#encoder.end())
    if (this.#isStopped()) return
    this.#state = 'ended'
    this.#stopTimers()
  }

  #isStopped(): boolean {
    return this.#state === 'stopped'
  }

  #isOver(): boolean {
    return this.#state === 'ended' || this.#state === 'stopped'
  }

  /** To the reader, if one waits: what there is, or how it ended. */
  #give(): void {
    const reader = this.#reader
    if (reader === undefined) return
    // A cast that ends its own export still gives its cell.
    const value = this.#isStopped() ? mark : (this.#joiner.take() ?? mark)
    const { maxBytes } = this.#options
    if (maxBytes !== 0 && this.#record.bytes + value.length > maxBytes) {
      this.fail(new CSV_EXPORT_MAX_BYTES(maxBytes))
      return
    }
    this.#reader = undefined
    if (this.#failure !== undefined) reader.reject(this.#failure.error)
    else if (value === mark && this.#isOver()) reader.resolve({ done: true, value: undefined })
    else {
      this.#record.addMade(value)
      if (value !== mark) this.#afterBytes()
      reader.resolve({ done: false, value })
    }
  }

  #afterBytes(): void {
    this.#isMarkDue = this.#options.marks === true
    clearTimeout(this.#commitTimer)
    if (this.#state !== 'ended') this.#silence.restart()
  }

  /** At most one check is under way, so a source that gives each item at once pays nothing for it. */
  #checkForPause(): void {
    this.#pauseCheck ??= setImmediate(guarded(this.#onPause, this.fail))
  }

  readonly #onPause = (): void => {
    this.#pauseCheck = undefined
    if (this.#state !== 'waiting') return
    this.#sourceDeadline.start()
    if (!this.#options.flush) return
    if (!this.#joiner.isEmpty) this.#give()
    else if (this.#isMarkDue && this.#reader !== undefined) {
      this.#isMarkDue = false
      this.#give()
    }
  }

  readonly #commit = (): void => {
    this.#joiner.add(this.#encoder.begin())
    this.#give()
  }

  readonly #sayHeartbeat = (): void => {
    // A reader that does not ask is not waiting for a sign of life.
    if (this.#reader === undefined) this.#silence.restart()
    else {
      this.#joiner.add((this.#options.heartbeat as Heartbeat).text)
      this.#give()
    }
  }
}

/** As the language has it. To ask again, as for a batch, could go on for good. */
function noStep(step: unknown): Error {
  return new TypeError(`an iterator's next() has to give { done, value }, got ${describe(step)}`)
}
