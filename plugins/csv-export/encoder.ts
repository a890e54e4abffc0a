import { type Options, Stringifier } from 'csv-stringify'
import { CSV_EXPORT_INVALID_CHUNK, CSV_EXPORT_INVALID_ROW } from './errors.ts'
import { PlainRows } from './plain-rows.ts'
import { describe } from './source.ts'

/** Turns the items of one reply into text, in order. Knows nothing of HTTP. */
export interface Encoder<T> {
  /** Items encoded so far. */
  readonly count: number
  /** The text of one item. Throws an error that says its number. */
  encode(item: T): string | Uint8Array
  /** What stands before the first item and is known without it; '' after the first. May be left uncalled. */
  begin(): string
  /** What remains to be written after the last item. */
  end(): string
}

/** Rows to CSV text: one csv-stringify stringifier a reply, and a shorter way for rows that need nothing but quoting. */
export class CsvEncoder implements Encoder<unknown> {
  count = 0
  readonly #stringifier: RowStringifier
  readonly #plainRowsWanted: boolean
  readonly #endMark: string | undefined
  #plainRows: PlainRows | undefined
  #firstRowLength = 1

  /**
   * @param options csv-stringify's own
   * @param plainRowsWanted whether rows that need nothing but quoting may bypass csv-stringify: only with our own casts
   * @param endMark what begins a last record, which also has the number of rows
   */
  constructor(options: Options, plainRowsWanted = false, endMark?: string) {
    this.#stringifier = new RowStringifier(options)
    this.#plainRowsWanted = plainRowsWanted
    this.#endMark = endMark
  }

  encode(row: unknown): string {
    const number = this.count + 1
    if (typeof row !== 'object' || row === null || row instanceof Promise) {
      throw new CSV_EXPORT_INVALID_ROW(number, `yield an object or an array, got ${describe(row)}`)
    }
    const plain = this.#plainRows?.encode(row)
    if (plain !== undefined) {
      this.count = number
      return plain
    }
    if (number === 1 && Array.isArray(row) && this.#stringifier.needsColumns) {
      throw new CSV_EXPORT_INVALID_ROW(
        number,
        'an array has no column names: give "columns", or "header: false"'
      )
    }
    try {
      const text = this.#stringifier.stringify(row)
      this.count = number
      if (number === 1 && Array.isArray(row)) this.#firstRowLength = row.length
      if (number === 1 && this.#plainRowsWanted) this.#plainRows = PlainRows.for(this.#stringifier.options)
      return text
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      const error = new CSV_EXPORT_INVALID_ROW(number, reason)
      error.cause = cause
      throw error
    }
  }

  begin(): string {
    return this.count === 0 ? this.#stringifier.begin() : ''
  }

  end(): string {
    const text = this.begin()
    return this.#endMark === undefined ? text : text + this.#endRecord(this.#endMark)
  }

  #endRecord(mark: string): string {
    const stringifier = this.#stringifier
    const columns = stringifier.options.columns as unknown[] | undefined
    const width = columns?.length ?? this.#firstRowLength
    // No row has told the columns, so there is no header to write.
    if (stringifier.needsColumns) stringifier.options.header = false
    return stringifier.stringify(
      Array.from({ length: width }, (_, index) => (index === 0 ? `${mark} ${this.count}` : ''))
    )
  }
}

/** Text chunks as they are. */
export class ChunkEncoder implements Encoder<unknown> {
  count = 0

  encode(chunk: unknown): string | Uint8Array {
    this.count++
    if (typeof chunk === 'string' || chunk instanceof Uint8Array) return chunk
    throw new CSV_EXPORT_INVALID_CHUNK(this.count, describe(chunk))
  }

  begin(): string {
    return ''
  }

  end(): string {
    return ''
  }
}

/**
 * csv-stringify's own Transform, driven by its two documented hooks instead of write() and read():
 * the library's dialect without a stream's cost per row (docs/performance.md has the figures).
 */
class RowStringifier extends Stringifier {
  #text = ''
  #error: Error | null | undefined
  #headWritten = false
  #headLength = 0
  readonly #keepError = (error?: Error | null): void => {
    this.#error ??= error
  }

  get needsColumns(): boolean {
    return this.options.header === true && this.options.columns === undefined
  }

  override push(chunk: string | Uint8Array | null): boolean {
    if (chunk !== null) this.#text += chunk.toString()
    return true
  }

  /** The byte order mark and the header, as far as they are known, once, ahead of the first row. */
  begin(): string {
    if (this.#headWritten) return ''
    this.#headWritten = true
    // Without a record so far, this writes them; the first record will have them again in front of it.
    this._flush(this.#keepError)
    const head = this.#take()
    this.#headLength = head.length
    return head
  }

  stringify(row: object): string {
    this._transform(row, 'utf8', this.#keepError)
    const text = this.#take().slice(this.#headLength)
    this.#headLength = 0
    return text
  }

  #take(): string {
    if (this.#error) throw this.#error
    const text = this.#text
    this.#text = ''
    return text
  }
}
