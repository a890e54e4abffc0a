import type { Transform } from 'node:stream'
import { constants, createBrotliCompress, createGzip, createZstdCompress } from 'node:zlib'
import type { ContentCoding } from '../options/http.ts'

/** A stream that codes what is written into it. */
export interface Coder {
  coding: ContentCoding
  stream: Transform
  /** Has it give out what it holds. */
  flush(onFlushed: () => void): void
}

/**
 * A stream's default would have a client that stalls hold four times the coded bytes. Smaller pieces than these come out of a
 * pool of Node, and keep all of a slab of it that others have left.
 */
const buffering = { highWaterMark: 16_384, chunkSize: 32_768 }

/**
 * Windows of 64 KiB and less, and small tables: larger ones would make CSV a few percent smaller, and cost a stalled client
 * many times the memory (docs/performance.md).
 * @returns a coder at a level that keeps up with a fast source
 */
export function createCoder(coding: ContentCoding): Coder {
  if (coding === 'gzip') {
    const stream = createGzip({ ...buffering, level: 2, windowBits: 14, memLevel: 6 })
    // Not its own default, a full flush: that forgets what it has learnt of the text.
    return { coding, stream, flush: (onFlushed) => stream.flush(constants.Z_SYNC_FLUSH, onFlushed) }
  }
  const {
    BROTLI_PARAM_QUALITY,
    BROTLI_PARAM_LGWIN,
    ZSTD_c_compressionLevel,
    ZSTD_c_hashLog,
    ZSTD_c_windowLog
  } = constants
  const stream =
    coding === 'br'
      ? createBrotliCompress({
          ...buffering,
          params: { [BROTLI_PARAM_QUALITY]: 1, [BROTLI_PARAM_LGWIN]: 16 }
        })
      : createZstdCompress({
          ...buffering,
          params: { [ZSTD_c_compressionLevel]: 1, [ZSTD_c_windowLog]: 15, [ZSTD_c_hashLog]: 12 }
        })
  return { coding, stream, flush: (onFlushed) => stream.flush(onFlushed) }
}
