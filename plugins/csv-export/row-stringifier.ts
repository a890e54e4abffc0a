import { Stringifier } from 'csv-stringify'

/**
 * csv-stringify's own Transform, driven by its two documented hooks instead of write() and read():
 * the library's dialect without a stream's cost per row (docs/performance.md has the figures).
 */
export class RowStringifier extends Stringifier {
  #text = ''
  #fields = 0
  #headWritten = false
  #headLength = 0
  #error: Error | null | undefined
  #ownKeys: ReadonlySet<unknown> | undefined
  // The first one: after an error in the header, _flush calls back once more, without it.
  readonly #keepError = (error?: Error | null): void => {
    this.#error ??= error
  }

  get columns(): readonly { key: string }[] | undefined {
    return this.options.columns as { key: string }[] | undefined
  }

  get needsColumns(): boolean {
    return this.options.header === true && this.columns === undefined
  }

  /** What a field must not contain, as there is no quote to put around it. */
  get unquotable(): readonly string[] {
    const { quote, delimiter, record_delimiter, quote_record_delimiter } = this.options
    if (quote !== '') return []
    return [delimiter, String(record_delimiter), ...(quote_record_delimiter ? ['\n', '\r'] : [])]
  }

  override push(chunk: string | Uint8Array | null): boolean {
    if (chunk !== null) this.#text += typeof chunk === 'string' ? this.#unmistakable(chunk) : chunk.toString()
    return true
  }

  /** The byte order mark and the header, as far as they are known, once, ahead of the first row. */
  begin(): string {
    if (this.#headWritten) return ''
    this.#headWritten = true
    this.#fields = this.columns?.length ?? 0
    // Without a record so far, this writes them; the first record will have them again in front of it.
    this._flush(this.#keepError)
    const head = this.#take()
    this.#headLength = head.length
    return head
  }

  stringify(row: object): string {
    const record = Array.isArray(row) ? this.#padded(row) : this.#withOwnKeys(row)
    this.#fields = this.columns?.length ?? (Array.isArray(row) ? row.length : Object.keys(row).length)
    this._transform(record, 'utf8', this.#keepError)
    const text = this.#take().slice(this.#headLength)
    this.#headLength = 0
    return text
  }

  /**
   * The first column that fails by itself, whatever the casts: csv-stringify does not say which field it could not read
   * (a getter that throws) or write (a symbol or a function, for which there is no cast).
   */
  unwritableColumn(row: object): number | undefined {
    const nothing = () => ''
    const cast = {
      string: nothing,
      number: nothing,
      bigint: nothing,
      boolean: nothing,
      date: nothing,
      object: nothing
    }
    const cells = Array.isArray(row)
      ? Array.from(row, (cell) => ({ row: [cell], columns: undefined }))
      : (this.columns ?? []).map(({ key }) => ({ row, columns: [key] }))
    const index = cells.findIndex(({ row, columns }) => {
      try {
        new RowStringifier({ cast, columns }).stringify(row)
        return false
      } catch {
        return true
      }
    })
    return index === -1 ? undefined : index
  }

  #take(): string {
    if (this.#error) throw this.#error
    const text = this.#text
    this.#text = ''
    return text
  }

  /** csv-stringify would end the record of a short array early: readers then miss fields. */
  #padded(row: readonly unknown[]): readonly unknown[] {
    const missing = (this.columns?.length ?? 0) - row.length
    return missing > 0 ? [...row, ...Array(missing)] : row
  }

  /** A row in which a column such as `constructor` is the row's own property or empty, never Object.prototype's. */
  #withOwnKeys(row: object): object {
    if (this.columns === undefined) return row
    this.#ownKeys ??= new Set(this.columns.map(({ key }) => key).filter(isInherited))
    const keys = this.#ownKeys
    if (keys.size === 0) return row
    return new Proxy(row, {
      // csv-stringify reads a key with dots as a path unless it is in the row.
      has: (row, key) => keys.has(key) || key in row,
      get: (row, key) => (keys.has(key) && !Object.hasOwn(row, key) ? undefined : Reflect.get(row, key))
    })
  }

  #unmistakable(chunk: string): string {
    const { eof, quote, escape: escapeCharacter, quoted_empty } = this.options
    const delimiter = String(this.options.record_delimiter)
    if (this.#fields !== 1 || quoted_empty === false) return chunk
    const start = !eof && chunk.startsWith(delimiter) ? delimiter.length : 0
    const end = chunk.length - (eof ? delimiter.length : 0)
    if (end - start > 2) return chunk
    const record = chunk.slice(start, end)
    if (!isMistakenRecord(record) || record.includes(escapeCharacter)) return chunk
    return chunk.slice(0, start) + quote + record + quote + chunk.slice(end)
  }
}

/** Whether a key, or a part of it that csv-stringify may take for a step of a path, is a member of every object. */
export function isInherited(key: string): boolean {
  return key in Object.prototype || key.split(/[.[\]"']/).some((part) => part.trim() in Object.prototype)
}

/**
 * Whether the whole text of a record of one field would be taken for none: many readers skip a blank line, and a lone
 * `\.` ends the data for PostgreSQL before 18. Python's csv module and COPY TO quote such a field too.
 * https://www.postgresql.org/docs/17/sql-copy.html
 */
export function isMistakenRecord(record: string): boolean {
  return record === '' || record === '\\.'
}
