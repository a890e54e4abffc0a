import { CSV_EXPORT_INVALID_CHUNK } from '../errors.ts'
import { describe } from '../stream/source.ts'
import type { Encoder } from './encoder.ts'
import { WholePairs } from './whole-pairs.ts'

/** Text chunks as they are. */
export class ChunkEncoder implements Encoder<unknown> {
  count = 0
  readonly escapedCells = 0
  readonly columnsWithoutValue = null
  readonly keysWithoutColumn = null
  readonly #pairs = new WholePairs()

  encode(chunk: unknown): string | Uint8Array {
    this.count++
    if (typeof chunk === 'string' || chunk instanceof Uint8Array) return this.#pairs.join(chunk)
    throw new CSV_EXPORT_INVALID_CHUNK(this.count, describe(chunk))
  }

  begin(): string {
    return ''
  }

  end(): string {
    return this.#pairs.end()
  }
}
