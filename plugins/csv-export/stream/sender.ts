import { guarded } from '../guard.ts'
import { Deadline } from './deadline.ts'

/** What a sender needs of a Writable. */
export interface Destination {
  write(chunk: Uint8Array, callback: (error?: Error | null) => void): boolean
  on(event: 'drain', listener: () => void): unknown
  off(event: 'drain', listener: () => void): unknown
}

/** What a destination writes to in the end: a socket, or a stream of HTTP/2. */
export interface Transport {
  readonly writableNeedDrain: boolean
  on(event: 'drain', listener: () => void): unknown
  off(event: 'drain', listener: () => void): unknown
}

export interface SenderOptions {
  /** Believed too, as what wraps a response may say of each chunk that it is taken. */
  transport: Transport
  /** Longest time in milliseconds in which the destination takes nothing; 0 is no limit. */
  stallTimeout: number
  /** Whether it is the client that has to take something, and not somebody on the way to it. */
  isClientAsked(): boolean
  onStalled(): void
  /** Has to stop the sender. */
  onError(error: unknown): void
  /** Called when nothing more is to come right now and nothing has been sent: the head should wait no longer. */
  onMark(): void
  /** Called after each write. */
  onWrite(chunk: Uint8Array): void
}

/** A smaller chunk comes before a pause or the end, and need not be waited for. */
const smallChunk = 16_384

/** Pulls chunks and writes them into a destination, at the pace at which it takes them. */
export class Sender {
  readonly #destination: Destination
  readonly #options: SenderOptions
  readonly #stall: Deadline
  #isStopped = false
  #isEnded = false
  #hasToWait = false
  /** Writes whose callback has not come. */
  #uncalled = 0
  /** Whether the last write wants 'drain' to be awaited. */
  #isFull = false
  /** Whether the destination calls back at all: what wraps a response may not. Then its 'drain' has to do. */
  #callsBack = false
  #wake: (() => void) | undefined

  constructor(destination: Destination, options: SenderOptions) {
    this.#destination = destination
    this.#options = options
    this.#stall = new Deadline(options.stallTimeout, this.#onTimeout)
    destination.on('drain', this.#onDrain)
    options.transport.on('drain', this.#onProgress)
  }

  /** Resolves when the destination, which is left open, has been given everything; `stop()` resolves it too. */
  async send(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const iterator = chunks[Symbol.asyncIterator]()
    try {
      while (this.#pass(await iterator.next())) if (this.#hasToWait) await this.#taken()
    } catch (error) {
      // Told first, as the source would hear of no reason from chunks that are let go of.
      this.#options.onError(error)
    }
    if (this.#isStopped) await iterator.return?.()
    else {
      // The client still has to take the end.
      this.#isEnded = true
      this.#stall.restart()
    }
  }

  /** @returns whether there may be more to send */
  #pass(result: IteratorResult<Uint8Array>): boolean {
    const { done, value: chunk } = result
    // What has waited for long is old to V8, and all that it points to with it, until the next full collection: with
    // hundreds of exports that take turns, the last chunk of each.
    result.value = undefined
    if (done || this.#isStopped) return false
    this.#hasToWait = false
    if (chunk.length === 0) this.#options.onMark()
    else {
      this.#write(chunk)
      this.#hasToWait = !this.#isTaken() && (this.#needsDrain() || chunk.length >= smallChunk)
    }
    return !this.#isStopped
  }

  stop(): void {
    this.#isStopped = true
    this.#stall.stop()
    this.#destination.off('drain', this.#onDrain)
    this.#options.transport.off('drain', this.#onProgress)
    this.#wake?.()
  }

  #write(chunk: Uint8Array): void {
    this.#uncalled++
    // What wraps a response may return nothing.
    this.#isFull = this.#destination.write(chunk, this.#onCalledBack) === false
    // It may have ended the export.
    if (this.#isStopped) return
    // Given a turn for the call: of a client that stalls, the kernel takes at least the first chunk at once.
    if (!this.#callsBack && !this.#isFull) setImmediate(this.#onUncalled)
    // Not before, as some call back at once. What was written before may have filled the transport since.
    if (!this.#isTaken()) this.#stall.start()
    this.#options.onWrite(chunk)
  }

  /** Some call back before a chunk is taken, some never do: all have to agree. */
  #isTaken(): boolean {
    return !this.#needsDrain() && this.#uncalled === 0
  }

  #needsDrain(): boolean {
    return this.#isFull || this.#options.transport.writableNeedDrain
  }

  #taken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  // An error is told by the destination's own end.
  readonly #onCalledBack = guarded(
    (error?: Error | null): void => {
      if (error) return
      this.#callsBack = true
      this.#uncalled = Math.max(0, this.#uncalled - 1)
      this.#onProgress()
    },
    (error) => this.#options.onError(error)
  )

  readonly #onTimeout = (): void => {
    if (this.#options.isClientAsked()) this.#options.onStalled()
    else this.#stall.restart()
  }

  readonly #onDrain = (): void => {
    this.#isFull = false
    if (!this.#callsBack) this.#uncalled = 0
    this.#onProgress()
  }

  readonly #onUncalled = (): void => {
    if (this.#callsBack || this.#isFull) return
    this.#uncalled = 0
    this.#onProgress()
  }

  readonly #onProgress = (): void => {
    if (this.#isStopped) return
    if (!this.#isTaken() || this.#isEnded) this.#stall.restart()
    else {
      this.#stall.stop()
      this.#wake?.()
      this.#wake = undefined
    }
  }
}
