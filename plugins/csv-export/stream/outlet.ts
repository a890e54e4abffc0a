import { createHash, type Hash } from 'node:crypto'
import type { Readable, Writable } from 'node:stream'
import { guarded } from '../guard.ts'
import type { ContentCoding } from '../options/options.ts'
import type { Coder } from './coders.ts'

/** Decides on a coder when the first bytes are there. */
export interface Coding {
  /** @param size bytes of the body, as far as it is known to be so small */
  open(size: number): Coder | undefined
}

export interface OutletEvents {
  /** A chunk has been taken: what comes next is what has to wait. */
  onWritten(): void
  onError(error: unknown): void
}

/** Where the pump's chunks go: into the destination, or into a coder in front of it, which the first chunk decides. */
export class Outlet {
  /** Bytes given to the destination. */
  sentBytes = 0
  readonly #destination: Writable
  readonly #coding: Coding | undefined
  readonly #hash: Hash | undefined
  #coder: Coder | undefined
  #events: OutletEvents | undefined
  #opened = false

  /**
   * @param coding none to write everything as it is
   * @param hashed whether a digest of the coded bytes will be asked for
   */
  constructor(destination: Writable, coding: Coding | undefined, hashed: boolean) {
    this.#destination = destination
    this.#coding = coding
    this.#hash = hashed ? createHash('sha256') : undefined
  }

  /** What the destination gets instead of what is written; null if nothing else. */
  get contentCoding(): ContentCoding | null {
    return this.#coder?.coding ?? null
  }

  /** Called once, before the first write. */
  listen(events: OutletEvents): void {
    this.#events = events
  }

  /** @param isLast whether it ends the body */
  write(chunk: Uint8Array, isLast: boolean): void {
    if (!this.#opened) this.#open(isLast ? chunk.length : Number.POSITIVE_INFINITY)
    if (this.#coder === undefined) this.sentBytes += chunk.length
    const taker = this.#coder?.stream ?? this.#destination
    // Not the 'drain' event: that comes for a buffer's worth of chunks, all of which a client that stalls would hold.
    taker.write(chunk, this.#events?.onWritten)
  }

  /** Holds nothing back that a pause of the source would delay. */
  flush(): void {
    this.#coder?.flush()
  }

  /** Resolves when everything has been given to the destination, which is left open. */
  async end(): Promise<void> {
    if (!this.#opened) this.#open(0)
    const coder = this.#coder?.stream
    if (coder === undefined) return
    await new Promise((resolve) => {
      coder.once('end', resolve)
      coder.end()
    })
  }

  /** Frees the coder, which gives out nothing more. */
  close(): void {
    this.#coder?.stream.destroy()
  }

  /** Of the coded bytes. */
  sha256(encoding: 'hex' | 'base64'): string {
    // A copy, as a hash gives its digest only once.
    return (this.#hash as Hash).copy().digest(encoding)
  }

  #open(size: number): void {
    this.#opened = true
    this.#coder = this.#coding?.open(size)
    if (this.#coder === undefined) return
    const { stream } = this.#coder
    const { onError } = this.#events as OutletEvents
    stream.on('error', onError)
    stream.on(
      'data',
      guarded((chunk: Buffer) => this.#pass(chunk, stream), onError)
    )
  }

  #pass(chunk: Buffer, coded: Readable): void {
    this.sentBytes += chunk.length
    this.#hash?.update(chunk)
    // One at a time: pipe() would fill the destination's buffer for a client that stalls.
    coded.pause()
    this.#destination.write(chunk, () => coded.resume())
  }
}
