/** Bytes; what is larger is given in pieces of about that, as only whole writes show that a slow client takes anything. */
const largestPiece = 65_536

/** Joins text, and bytes as they are, into pieces of about one size. */
export class Joiner {
  readonly #size: number
  #text = ''
  /** Characters that make a piece, going by the one before. */
  #textLimit: number
  /** Bytes that come before the text. */
  #pieces: Buffer[] = []

  /** @param size bytes of a piece, about; 0 for pieces of any size */
  constructor(size: number) {
    this.#size = size
    this.#textLimit = Math.max(1, size)
  }

  add(chunk: string | Uint8Array): void {
    if (typeof chunk === 'string') this.#text += chunk
    else {
      this.#cutText()
      this.#cut(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    }
  }

  /** Whether there is a piece of the size. */
  get isFull(): boolean {
    return this.#text.length >= this.#textLimit || this.#pieces.length > 0
  }

  get isEmpty(): boolean {
    return this.#text === '' && this.#pieces.length === 0
  }

  /** The next piece, of what there is. */
  take(): Buffer | undefined {
    this.#cutText()
    return this.#pieces.shift()
  }

  clear(): void {
    this.#text = ''
    this.#pieces = []
  }

  #cutText(): void {
    const text = this.#text
    if (text === '') return
    this.#text = ''
    const bytes = toBytes(text)
    // What comes next is mostly of the same script. To count its bytes while it is joined would cost more.
    this.#textLimit = Math.max(1, this.#size * (text.length / bytes.length))
    this.#cut(bytes)
  }

  #cut(bytes: Buffer): void {
    // Of one size, so that none is a piece of a few bytes.
    const size = Math.ceil(bytes.length / Math.max(1, Math.round(bytes.length / largestPiece)))
    for (let offset = 0; offset < bytes.length; offset += size) {
      this.#pieces.push(bytes.subarray(offset, offset + size))
    }
  }
}

/** Of exactly their size: a string would be kept beside its bytes until the client takes them, a small Buffer with its pool. */
function toBytes(text: string): Buffer {
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text))
  bytes.write(text)
  return bytes
}
