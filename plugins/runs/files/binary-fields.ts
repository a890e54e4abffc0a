/** Bytes of signature, flags and extension. */
const headerSize = 19
/** Bytes of the number of a row's fields, 1 here, and of the length of its field. */
const prefixSize = 6

/**
 * The fields of a column that PostgreSQL copies in its binary format, cut out of the bytes as they come:
 * https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
 */
export class BinaryFields {
  readonly #fields: Buffer[]
  #skip = headerSize
  /** Bytes of the field that are still to come. */
  #rest = 0
  readonly #prefix = Buffer.alloc(prefixSize)
  #prefixLength = 0

  /** @param fields given their bytes, a field in one Buffer or several */
  constructor(fields: Buffer[]) {
    this.#fields = fields
  }

  add(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const left = bytes.length - at
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, left)
        this.#skip -= skipped
        at += skipped
      } else if (this.#rest > 0) {
        const part = bytes.subarray(at, at + this.#rest)
        this.#fields.push(part)
        this.#rest -= part.length
        at += part.length
      } else at += this.#addToPrefix(bytes.subarray(at))
    }
  }

  /** After the last row there is a number of fields alone, -1. */
  #addToPrefix(bytes: Buffer): number {
    const added = bytes.copy(this.#prefix, this.#prefixLength)
    this.#prefixLength += added
    if (this.#prefixLength === prefixSize) {
      this.#prefixLength = 0
      this.#rest = this.#prefix.readInt32BE(2)
    }
    return added
  }
}
