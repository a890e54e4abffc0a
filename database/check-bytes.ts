import { isUtf8 } from 'node:buffer'
import { Transform } from 'node:stream'
import { CargoFileError } from './cargo-file-error.ts'

/**
 * Passes bytes on as they are. The CSV parser would replace those that are not UTF-8 in silence, and take a file whose lines
 * end with CR alone for one line: it would name the first mistake that this makes.
 */
export function checkBytes(): Transform {
  let rest: Buffer = Buffer.alloc(0)
  let line = 1
  const check = (bytes: Buffer): void => {
    if (!isUtf8(bytes)) {
      const before = bytes.toString('latin1', 0, firstInvalid(bytes))
      throw new CargoFileError(`line ${line + countBreaks(before)}: the bytes are not UTF-8`)
    }
    if (line === 1 && /^[^\n]*\r[^\n]/.test(bytes.toString('latin1'))) {
      throw new CargoFileError('line 1 ends with CR alone: lines end with LF, or with CR and LF')
    }
    line += countBreaks(bytes)
  }
  return new Transform({
    transform(chunk: Buffer, _encoding, callback) {
      try {
        const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk
        const end = bytes.length - unfinishedLength(bytes)
        check(bytes.subarray(0, end))
        rest = bytes.subarray(end)
        callback(null, chunk)
      } catch (error) {
        callback(error as Error)
      }
    },
    flush(callback) {
      try {
        check(rest)
        callback()
      } catch (error) {
        callback(error as Error)
      }
    }
  })
}

export function countBreaks(text: Buffer | string): number {
  let count = 0
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) count++
  return count
}

/** How many bytes at the end begin a character whose rest is still to come. */
function unfinishedLength(bytes: Buffer): number {
  for (let length = 1; length <= Math.min(3, bytes.length); length++) {
    const byte = bytes[bytes.length - length] as number
    if (byte < 0x80) return 0
    if (byte >= 0xc0) return length < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? length : 0
  }
  return 0
}

/** Where the first character begins that is not UTF-8, by halving. */
function firstInvalid(bytes: Buffer): number {
  let valid = 0
  let invalid = bytes.length
  while (invalid - valid > 1) {
    const middle = (valid + invalid) >> 1
    const part = bytes.subarray(0, middle)
    if (isUtf8(part.subarray(0, middle - unfinishedLength(part)))) valid = middle
    else invalid = middle
  }
  return valid
}
