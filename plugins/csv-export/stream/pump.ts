import type { Hash } from 'node:crypto'
import type { Encoder } from '../csv/encoder.ts'
import { isPromiseLike } from '../describe.ts'
import {
  CSV_EXPORT_CLIENT_STALLED,
  CSV_EXPORT_MAX_BYTES,
  CSV_EXPORT_MAX_DURATION,
  CSV_EXPORT_MAX_ROWS,
  CSV_EXPORT_SOURCE_STALLED
} from '../errors.ts'
import { guarded } from '../guard.ts'
import type { Heartbeat } from '../options/options.ts'
import { Deadline } from './deadline.ts'
import type { Outlet } from './outlet.ts'
import type { Source } from './source.ts'
import { ownTurn } from './turns.ts'

export interface PumpOptions {
  /** Text is joined up to about this many bytes; 0 writes each item's text by itself. */
  chunkSize: number
  /** Whether the source gives arrays of items. */
  batches: boolean
  heartbeat?: Heartbeat | undefined
  /** Milliseconds after which `onCommit` is called and what can be known without a row is written. */
  commitAfter: number
  /** These are milliseconds, rows and bytes; 0 is no limit. */
  sourceTimeout: number
  stallTimeout: number
  maxDuration: number
  maxRows: number
  maxBytes: number
  /** Told the bytes that are written. */
  hash?: Hash | undefined
  /** Called when the head of the reply should wait no longer. */
  onCommit?: () => void
  /** Called after each write. */
  onWrite?: () => void
}

/** Bytes; what is larger is written in pieces of about that, as only whole writes show that a slow client takes anything. */
const largestWrite = 65_536

/**
 * The writer: items of a source, through an encoder, into a destination at the pace of its backpressure.
 *
 * Text is joined until there is a chunk of it or until the source pauses: a `next()` that is still pending when the
 * event loop has gone round once has nothing more to give right now, so what is there goes out.
 */
export class Pump<T> {
  bytes = 0
  /** Milliseconds on the clock of `performance.now()`. */
  firstByteAt: number | undefined
  readonly #source: Source<T>
  readonly #encoder: Encoder<T>
  readonly #outlet: Outlet
  readonly #options: PumpOptions
  readonly #sourceDeadline: Deadline
  readonly #stallDeadline: Deadline
  readonly #maxDuration: Deadline
  readonly #silence: Deadline
  #commitTimer: NodeJS.Timeout | undefined
  #fail: (error: unknown) => void = () => {}
  #text = ''
  /** Characters that make a chunk, going by the chunk before. */
  #textLimit: number
  #stopped = false
  #sourceEnded = false
  #waitingForItem = false
  #pauseCheck: NodeJS.Immediate | undefined
  /** Writes that the destination has not taken yet. */
  #unwritten = 0
  #writtenSinceFlush = false
  #wakeWriter: (() => void) | undefined

  constructor(source: Source<T>, encoder: Encoder<T>, outlet: Outlet, options: PumpOptions) {
    this.#source = source
    this.#encoder = encoder
    this.#outlet = outlet
    this.#options = options
    this.#textLimit = options.chunkSize
    const { sourceTimeout, stallTimeout, maxDuration, heartbeat } = options
    this.#sourceDeadline = new Deadline(sourceTimeout, () =>
      this.#abandon(new CSV_EXPORT_SOURCE_STALLED(sourceTimeout))
    )
    this.#stallDeadline = new Deadline(stallTimeout, () =>
      this.#abandon(new CSV_EXPORT_CLIENT_STALLED(stallTimeout))
    )
    this.#maxDuration = new Deadline(maxDuration, () =>
      this.#abandon(new CSV_EXPORT_MAX_DURATION(maxDuration))
    )
    this.#silence = new Deadline(
      heartbeat?.every ?? 0,
      this.#guarded(() => this.#sendHeartbeat())
    )
  }

  get rows(): number {
    return this.#encoder.count
  }

  /**
   * Resolves when the last byte has been handed to the destination (which is left open); a client that does not take it
   * can still make `onLateFailure` be called, until `stop()`. Rejects when the source, a row or a limit fails.
   * After `stop()` it may stay pending for good, as a source may never answer: nothing else holds on to it.
   */
  run(signal: AbortSignal, onLateFailure: (error: unknown) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#fail = reject
      this.#outlet.listen({ onWritten: this.#onWritten, onError: this.#abandon })
      this.#maxDuration.start()
      this.#silence.start()
      this.#commitTimer = setTimeout(
        this.#guarded(() => this.#commit()),
        this.#options.commitAfter
      )
      this.#copy(signal).then(() => {
        this.#fail = onLateFailure
        resolve()
      }, reject)
    })
  }

  /** No more reading or writing; leaves no listener and no timer. */
  stop(): void {
    this.#stopped = true
    this.#text = ''
    this.#sourceDeadline.stop()
    this.#stallDeadline.stop()
    this.#maxDuration.stop()
    this.#silence.stop()
    clearTimeout(this.#commitTimer)
    clearImmediate(this.#pauseCheck)
    this.#outlet.close()
  }

  /** Stops at once: what came after a write that was left out would close up to what stood before it. */
  readonly #abandon = (error: unknown): void => {
    this.stop()
    this.#fail(error)
  }

  /** For all that Node calls. What the source's promises call ends in the promise of `#copy()`. */
  #guarded(callback: () => void): () => void {
    return guarded(callback, this.#abandon)
  }

  async #copy(signal: AbortSignal): Promise<void> {
    const { batches } = this.#options
    this.#sourceDeadline.start()
    await this.#source.open(signal, batches)
    this.#sourceDeadline.stop()
    await ownTurn()
    while (!this.#stopped) {
      let step = this.#source.next()
      if (isPromiseLike(step)) {
        this.#waitingForItem = true
        this.#checkForPause()
        step = await step
        this.#waitingForItem = false
        this.#sourceDeadline.stop()
        if (this.#stopped) return
      }
      if (step.done) break
      const chunk = this.#encoder.encode(step.value)
      this.#checkRows()
      if (typeof chunk === 'string') {
        this.#text += chunk
        if (this.#text.length < this.#textLimit) continue
        await this.#writePieces(this.#takeText())
      } else {
        this.#flush()
        await this.#writePieces(chunk)
      }
      // A source that never waits would keep every other request waiting: one turn of the event loop a chunk.
      // To wait until the chunk is taken is none: a socket that takes it at once says so within the same turn.
      if (this.#unwritten > 0) await this.#written()
      await ownTurn()
    }
    if (this.#stopped) return
    this.#text += this.#encoder.end()
    // Encoded rows may leave their last one open until here.
    this.#checkRows()
    this.#sourceEnded = true
    this.#flush()
    if (this.#stopped) return
    this.#silence.stop()
    this.#stallDeadline.start()
    await this.#outlet.end()
  }

  #checkRows(): void {
    const { maxRows } = this.#options
    if (maxRows !== 0 && this.rows > maxRows) throw new CSV_EXPORT_MAX_ROWS(maxRows)
  }

  #flush(): void {
    if (this.#text !== '') this.#write(this.#takeText())
  }

  #takeText(): Uint8Array {
    const text = this.#text
    const bytes = toBytes(text)
    this.#text = ''
    // What comes next is mostly of the same script. To count its bytes while it is joined would cost more.
    if (text !== '') this.#textLimit = this.#options.chunkSize * (text.length / bytes.length)
    return bytes
  }

  /** Has all that was given so far sent, as nothing more is to come right now. */
  #flushAll(): void {
    this.#flush()
    if (this.#writtenSinceFlush) this.#outlet.flush()
    this.#writtenSinceFlush = false
  }

  async #writePieces(chunk: Uint8Array): Promise<void> {
    // Of one size, so that none is a write for a few bytes.
    const size = Math.ceil(chunk.length / Math.max(1, Math.round(chunk.length / largestWrite)))
    for (let offset = 0; offset < chunk.length && !this.#stopped; offset += size) {
      if (this.#unwritten > 0) await this.#written()
      this.#write(chunk.subarray(offset, offset + size))
    }
  }

  #write(chunk: Uint8Array): void {
    // The end may have come while a piece of a large chunk waited for the one before.
    if (this.#stopped) return
    const { hash, maxBytes, onWrite } = this.#options
    if (maxBytes !== 0 && this.bytes + chunk.length > maxBytes) {
      this.#abandon(new CSV_EXPORT_MAX_BYTES(maxBytes))
      return
    }
    this.bytes += chunk.length
    this.#writtenSinceFlush = true
    this.firstByteAt ??= performance.now()
    this.#silence.start()
    hash?.update(chunk)
    if (this.#unwritten++ === 0) this.#stallDeadline.start()
    this.#outlet.write(chunk, this.#sourceEnded)
    onWrite?.()
  }

  /** At most one check is under way, so a source that gives each item at once pays nothing for it. */
  #checkForPause(): void {
    this.#pauseCheck ??= setImmediate(this.#onPauseCheck)
  }

  readonly #onPauseCheck = this.#guarded(() => {
    this.#pauseCheck = undefined
    if (!this.#waitingForItem) return
    this.#sourceDeadline.start()
    if (this.#unwritten === 0) this.#flushAll()
  })

  #written(): Promise<void> {
    return new Promise((resolve) => {
      this.#wakeWriter = resolve
    })
  }

  readonly #onWritten = this.#guarded(() => {
    this.#unwritten--
    if (this.#stopped) return
    if (this.#unwritten > 0 || this.#sourceEnded) this.#stallDeadline.start()
    else this.#stallDeadline.stop()
    if (this.#unwritten > 0) return
    this.#wakeWriter?.()
    this.#wakeWriter = undefined
    if (this.#waitingForItem) this.#flushAll()
  })

  #sendHeartbeat(): void {
    // A client that is not reading is not waiting for a sign of life.
    if (this.#unwritten > 0) this.#silence.start()
    else {
      this.#write(toBytes((this.#options.heartbeat as Heartbeat).text))
      this.#outlet.flush()
    }
  }

  #commit(): void {
    if (this.firstByteAt !== undefined || this.#stopped) return
    this.#text += this.#encoder.begin()
    this.#flushAll()
    this.#options.onCommit?.()
  }
}

/** Of exactly their size: a string would be kept beside its bytes until the client takes them, a small Buffer with its pool. */
function toBytes(text: string): Uint8Array {
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text))
  bytes.write(text)
  return bytes
}
