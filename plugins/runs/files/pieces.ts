import { CSV_EXPORT_FILE_INCOMPLETE } from '../errors.ts'

export interface SealedFile {
  /** Bytes; undefined where there is no such file, or it is not sealed. */
  size: number | undefined
  /** Adds the bytes from `from` to before `to`; fewer where there are no more, none where the file is no longer there. */
  read(from: number, to: number, into: Buffer[]): Promise<void>
}

type Result = IteratorResult<Buffer, undefined>

const done = { done: true, value: undefined } as const

/**
 * A part of a file, each piece read when it is asked for. Nothing is held while the reader has it: it may be slow, or never
 * come back. So no promise is resolved with bytes: one that has waited for long is old to V8, and keeps them until the next
 * full collection.
 */
export class Pieces implements AsyncIterableIterator<Buffer, undefined> {
  readonly #id: string
  readonly #open: () => Promise<SealedFile>
  readonly #to: number
  readonly #pieceSize: number
  #file: Promise<SealedFile> | undefined
  #at: number
  readonly #chunks: Buffer[] = []
  #isReturned = false

  /** @param pieceSize bytes read at a time */
  constructor(id: string, open: () => Promise<SealedFile>, from: number, to: number, pieceSize: number) {
    this.#id = id
    this.#open = open
    this.#at = from
    this.#to = to
    this.#pieceSize = pieceSize
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /** @throws CSV_EXPORT_FILE_INCOMPLETE */
  async next(): Promise<Result> {
    if (this.#chunks.length > 0) return this.#give()
    this.#file ??= this.#open()
    return this.#file.then(this.#read)
  }

  async return(): Promise<Result> {
    this.#isReturned = true
    this.#chunks.length = 0
    return done
  }

  readonly #read = ({ size, read }: SealedFile): Result | Promise<Result> => {
    if (size === undefined || size < this.#to) throw new CSV_EXPORT_FILE_INCOMPLETE(this.#id)
    if (this.#at === this.#to || this.#isReturned) return done
    const end = Math.min(this.#at + this.#pieceSize, this.#to)
    return read(this.#at, end, this.#chunks).then(() => {
      if (this.#isReturned) return this.return()
      this.#at += lengthOf(this.#chunks)
      if (this.#at !== end) throw new CSV_EXPORT_FILE_INCOMPLETE(this.#id)
      return this.#give()
    })
  }

  #give(): Result {
    return takenOnce(this.#chunks.shift() as Buffer)
  }
}

/** A result that lets go of its value when it is read. */
export function takenOnce(chunk: Buffer): IteratorYieldResult<Buffer> {
  let kept: Buffer | undefined = chunk
  return {
    done: false,
    get value() {
      const value = kept as Buffer
      kept = undefined
      return value
    }
  }
}

function lengthOf(chunks: readonly Buffer[]): number {
  return chunks.reduce((sum, { length }) => sum + length, 0)
}
