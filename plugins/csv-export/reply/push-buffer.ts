import type { Readable } from 'node:stream'
import type { Destination } from '../stream/sender.ts'

/** A stream's own buffer, as a sender sees it: it takes more when the stream is read. */
export class PushBuffer implements Destination {
  readonly #stream: Readable
  #callback: (() => void) | undefined
  #onDrain: (() => void) | undefined

  constructor(stream: Readable) {
    this.#stream = stream
  }

  write(chunk: Uint8Array, callback: () => void): boolean {
    const wantsMore = this.#stream.push(chunk)
    if (wantsMore) callback()
    else this.#callback = callback
    return wantsMore
  }

  on(_event: 'drain', listener: () => void): void {
    this.#onDrain = listener
  }

  off(): void {
    this.#onDrain = undefined
  }

  emptied(): void {
    const callback = this.#callback
    this.#callback = undefined
    callback?.()
    if (callback !== undefined) this.#onDrain?.()
  }
}
