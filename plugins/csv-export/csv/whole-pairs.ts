/** A piece of text, and the half of a surrogate pair that has to wait for its other half. */
const lastHalf = /[\ud800-\udbff]$/

/**
 * Keeps pairs whole that were cut between two chunks, as each chunk is made bytes by itself: a half alone would become
 * U+FFFD.
 */
export class WholePairs {
  #half = ''

  /** The chunk, with a half that waited in front of it, without one that has to wait. */
  join(chunk: string | Uint8Array): string | Uint8Array {
    const half = this.#half
    if (typeof chunk !== 'string') {
      this.#half = ''
      return half === '' ? chunk : Buffer.concat([Buffer.from(half), chunk])
    }
    if (chunk === '') return ''
    const text = half + chunk
    const kept = lastHalf.exec(text)
    this.#half = kept === null ? '' : kept[0]
    return kept === null ? text : text.slice(0, -1)
  }

  /** The half that never got another. */
  end(): string {
    return this.#half
  }
}
