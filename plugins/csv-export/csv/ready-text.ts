import { types } from 'node:util'
import { describe } from '../describe.ts'
import { CSV_EXPORT_INVALID_CHUNK } from '../errors.ts'
import type { Encoder } from './encoder.ts'

const lineFeed = 0x0a
const quote = 0x22

/** CSV that somebody else has encoded, such as a database: passed on as it is, its rows counted. */
export class EncodedRows implements Encoder<string | Uint8Array> {
  readonly escapedCells = 0
  readonly columnsWithoutValue = null
  readonly keysWithoutColumn = null
  readonly #pairs = new WholePairs()
  readonly #headerRecords: number
  #chunks = 0
  #records = 0
  #inQuotes = false
  #inRecord = false

  /** @param hasHeader whether the first record is no row */
  constructor(hasHeader: boolean) {
    this.#headerRecords = hasHeader ? 1 : 0
  }

  get count(): number {
    return Math.max(0, this.#records - this.#headerRecords)
  }

  encode(chunk: string | Uint8Array): string | Uint8Array {
    this.#chunks++
    if (typeof chunk !== 'string' && !types.isUint8Array(chunk)) {
      throw new CSV_EXPORT_INVALID_CHUNK(this.#chunks, describe(chunk))
    }
    const whole = this.#pairs.join(chunk)
    this.#countRecords(typeof whole === 'string' ? Buffer.from(whole) : whole)
    return whole
  }

  begin(): string {
    return ''
  }

  end(): string {
    const half = this.#pairs.end()
    this.#countRecords(Buffer.from(half))
    if (this.#inRecord) this.#records++
    return half
  }

  /** A line feed ends a record where an even number of quotes has come before it: a quote in a field is doubled. */
  #countRecords(bytes: Uint8Array): void {
    let records = 0
    let inQuotes = this.#inQuotes
    for (let index = 0; index < bytes.length; index++) {
      const byte = bytes[index]
      if (byte === quote) inQuotes = !inQuotes
      else if (byte === lineFeed && !inQuotes) records++
    }
    this.#records += records
    this.#inQuotes = inQuotes
    if (bytes.length > 0) this.#inRecord = inQuotes || bytes.at(-1) !== lineFeed
  }
}

/** Text chunks as they are. */
export class ChunkEncoder implements Encoder<unknown> {
  count = 0
  readonly escapedCells = 0
  readonly columnsWithoutValue = null
  readonly keysWithoutColumn = null
  readonly #pairs = new WholePairs()

  encode(chunk: unknown): string | Uint8Array {
    this.count++
    if (typeof chunk === 'string' || types.isUint8Array(chunk)) return this.#pairs.join(chunk)
    throw new CSV_EXPORT_INVALID_CHUNK(this.count, describe(chunk))
  }

  begin(): string {
    return ''
  }

  end(): string {
    return this.#pairs.end()
  }
}

/** Bytes of a file that was made before. */
export class KeptBytes implements Encoder<Uint8Array> {
  count = 0
  readonly escapedCells = 0
  readonly columnsWithoutValue = null
  readonly keysWithoutColumn = null
  readonly #rows: number
  #left: number

  /** @param rows that there are in all of its `length` bytes */
  constructor(rows: number, length: number) {
    this.#rows = rows
    this.#left = length
  }

  encode(chunk: Uint8Array): Uint8Array {
    this.#left -= chunk.length
    if (this.#left === 0) this.count = this.#rows
    return chunk
  }

  begin(): string {
    return ''
  }

  end(): string {
    return ''
  }
}

/** A piece of text, and the half of a surrogate pair that has to wait for its other half. */
const lastHalf = /[\ud800-\udbff]$/

/**
 * Keeps pairs whole that were cut between two chunks, as each chunk is made bytes by itself: a half alone would become
 * U+FFFD.
 */
class WholePairs {
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
