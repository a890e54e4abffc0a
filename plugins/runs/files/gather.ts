import type { FileWriter } from './files.ts'

/** Where the bytes of a file go, in order. `start` is the place of the first of them in the file. */
export interface FileSink {
  write(data: Buffer, start: number): Promise<void>
  /** The last ones, none perhaps. */
  seal(data: Buffer, start: number): Promise<void>
}

/**
 * Gathers what is appended into writes of `size` bytes: each has a cost of its own.
 * @param keepFor longest that bytes are kept back while others come, in milliseconds
 */
export function gather(size: number, sink: FileSink, keepFor = Number.POSITIVE_INFINITY): FileWriter {
  let kept: Buffer[] = []
  let length = 0
  let start = 0
  let writtenAt = performance.now()
  return {
    async append(chunk) {
      kept.push(chunk)
      length += chunk.length
      const isLate = performance.now() - writtenAt >= keepFor
      if (length < size && !isLate) return
      const data = Buffer.concat(kept)
      const whole = isLate ? length : length - (length % size)
      for (let at = 0; at < whole; at += size) {
        const part = data.subarray(at, Math.min(at + size, whole))
        await sink.write(part, start)
        start += part.length
      }
      kept = [data.subarray(whole)]
      length -= whole
      writtenAt = performance.now()
    },
    seal: () => sink.seal(Buffer.concat(kept), start)
  }
}
