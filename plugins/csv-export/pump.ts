import type { Writable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import type { Encoder } from './encoder.ts'
import { isPromiseLike, type Source } from './source.ts'

/** Text sent into a silent stream, so that nothing in between takes the connection for dead. */
export interface Heartbeat {
  /** Longest silence, in milliseconds. */
  every: number
  /** What is sent after it. */
  text: string
}

export interface PumpOptions {
  /** Text is joined up to this many characters; 0 writes each item's text by itself. */
  chunkSize: number
  heartbeat?: Heartbeat | undefined
}

/**
 * The writer: items of a source, through an encoder, into a destination at the pace of its backpressure.
 *
 * Text is joined until there is a chunk of it or until the source pauses: a `next()` that is still pending when the
 * event loop has gone round once has nothing more to give right now, so what is there goes out.
 */
export class Pump<T> {
  bytes = 0
  readonly #source: Source<T>
  readonly #encoder: Encoder<T>
  readonly #destination: Writable
  readonly #options: PumpOptions
  #text = ''
  #stopped = false
  #waitingForItem = false
  #pauseCheck: NodeJS.Immediate | undefined
  #needsDrain = false
  #wakeWriter: (() => void) | undefined
  #heartbeatTimer: NodeJS.Timeout | undefined

  constructor(source: Source<T>, encoder: Encoder<T>, destination: Writable, options: PumpOptions) {
    this.#source = source
    this.#encoder = encoder
    this.#destination = destination
    this.#options = options
  }

  get rows(): number {
    return this.#encoder.count
  }

  /**
   * Resolves when the last byte has been handed to the destination, rejects when the source or a row fails.
   * After `stop()` it may stay pending for good, as a source may never answer: nothing else holds on to it.
   */
  async run(signal: AbortSignal): Promise<void> {
    this.#destination.on('drain', this.#onDrain)
    this.#startHeartbeat()
    await this.#source.open(signal)
    while (!this.#stopped) {
      let step = this.#source.next()
      if (isPromiseLike(step)) {
        this.#waitingForItem = true
        this.#checkForPause()
        step = await step
        this.#waitingForItem = false
        if (this.#stopped) return
      }
      if (step.done) break
      this.#add(this.#encoder.encode(step.value))
      if (this.#text.length < this.#options.chunkSize) continue
      this.#flush()
      // A source that never waits would keep every other request waiting: one turn of the event loop a chunk.
      // Not even a drained destination is one: a socket that takes a chunk at once says so within the same turn.
      await turn()
      if (this.#needsDrain) await this.#drained()
    }
    if (this.#stopped) return
    this.#text += this.#encoder.end()
    this.#flush()
  }

  /** No more reading or writing; leaves no listener and no timer. */
  stop(): void {
    this.#stopped = true
    this.#text = ''
    clearTimeout(this.#heartbeatTimer)
    clearImmediate(this.#pauseCheck)
    this.#destination.off('drain', this.#onDrain)
  }

  #add(chunk: string | Uint8Array): void {
    if (typeof chunk === 'string') {
      this.#text += chunk
    } else {
      this.#flush()
      this.#write(chunk)
    }
  }

  #flush(): void {
    if (this.#text === '') return
    const chunk = this.#text
    this.#text = ''
    this.#write(chunk)
  }

  #write(chunk: string | Uint8Array): void {
    this.bytes += Buffer.byteLength(chunk)
    this.#heartbeatTimer?.refresh()
    if (!this.#destination.write(chunk)) this.#needsDrain = true
  }

  /** At most one check is under way, so a source that gives each item at once pays nothing for it. */
  #checkForPause(): void {
    if (this.#text === '' || this.#pauseCheck !== undefined) return
    this.#pauseCheck = setImmediate(() => {
      this.#pauseCheck = undefined
      if (this.#waitingForItem && !this.#needsDrain) this.#flush()
    })
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#wakeWriter = resolve
    })
  }

  readonly #onDrain = (): void => {
    this.#needsDrain = false
    this.#wakeWriter?.()
    this.#wakeWriter = undefined
    if (this.#waitingForItem) this.#flush()
  }

  #startHeartbeat(): void {
    const { heartbeat } = this.#options
    if (heartbeat === undefined) return
    this.#heartbeatTimer = setTimeout(() => {
      this.#heartbeatTimer?.refresh()
      // A client that is not reading is not waiting for a sign of life.
      if (!this.#needsDrain) this.#write(Buffer.from(heartbeat.text))
    }, heartbeat.every)
  }
}
