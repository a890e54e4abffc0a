import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from 'node:zlib'

export interface Row {
  id: string
  text: string
}

const text = 'some text of a row, with a comma'

/** All rows have one length, so that a file of some is the beginning of a file of more. */
export const rowOf = (index: number): Row => ({ id: `r${String(index % 1e7).padStart(7, '0')}`, text })

const header = 'id,text\n'
const lineOf = (index: number): string => `${rowOf(index).id},"${text}"\n`
const longest = Buffer.from(header + Array.from({ length: 50_000 }, (_, index) => lineOf(index)).join(''))

/** What a file of that many rows is, up to 50,000. One of none has no header, as the first row decides it. */
export function fileOf(rows: number): Buffer {
  if (rows === 0) return Buffer.alloc(0)
  return longest.subarray(0, header.length + rows * lineOf(0).length)
}

const decoders: Record<string, (coded: Buffer) => Buffer> = {
  gzip: gunzipSync,
  br: brotliDecompressSync,
  zstd: zstdDecompressSync
}

/** A body as its client gets it. */
export class Body {
  /** As they came. */
  bytes = 0
  /** Whether every byte of a file so far is the right one. */
  isRight = true
  readonly #parts: Buffer[] = []
  readonly #coding: string | undefined
  readonly #isFile: boolean

  /** @param isFile whether it is a file, and no error */
  constructor(isFile: boolean, coding?: string | undefined) {
    this.#isFile = isFile
    this.#coding = coding
  }

  take(part: Buffer): void {
    if (!this.#isFile || this.#coding !== undefined) this.#parts.push(part)
    else this.isRight &&= isPart(part, this.bytes)
    this.bytes += part.length
  }

  /** Of one that has come to its end; of a file without a coding it is known by its length. */
  isFileOf(rows: number): boolean {
    if (this.#coding === undefined) return this.isRight && this.bytes === fileOf(rows).length
    return decoders[this.#coding]?.(Buffer.concat(this.#parts)).equals(fileOf(rows)) === true
  }

  /** Of one that is no file. */
  get text(): string {
    return Buffer.concat(this.#parts).toString()
  }
}

/** What comes behind the longest file is not looked at. */
function isPart(part: Buffer, at: number): boolean {
  const due = longest.subarray(at, at + part.length)
  return part.subarray(0, due.length).equals(due)
}
