import type { FileWriter } from './files.ts'

/** Where the bytes of a file go, in order. `start` is the place of the first of them in the file. */
export interface FileSink {
  /** `data` is the sink's until this resolves. */
  write(data: Buffer, start: number): Promise<void>
  /** The last ones, none perhaps. */
  seal(data: Buffer, start: number): Promise<void>
}

/**
 * Gathers what is appended into writes of `size` bytes: each has a cost of its own. By copying, as a source may use the memory
 * of a chunk again for the next one.
 * @param keepFor longest that bytes are kept back while others come, in milliseconds
 */
export function gather(size: number, sink: FileSink, keepFor = Number.POSITIVE_INFINITY): FileWriter {
  const kept = Buffer.allocUnsafeSlow(size)
  let length = 0
  let start = 0
  let writtenAt = performance.now()

  async function write(): Promise<void> {
    await sink.write(kept.subarray(0, length), start)
    start += length
    length = 0
    writtenAt = performance.now()
  }

  return {
    async append(chunk) {
      for (let at = 0; at < chunk.length; ) {
        const copied = chunk.copy(kept, length, at)
        at += copied
        length += copied
        if (length === size) await write()
      }
      if (length > 0 && performance.now() - writtenAt >= keepFor) await write()
    },
    seal: () => sink.seal(kept.subarray(0, length), start)
  }
}
