import { isUtf8 } from 'node:buffer'
import { pipeline, type Readable, Transform } from 'node:stream'
import { CsvError, parse } from 'csv-parse'
import { cargoColumns } from './cargoes.ts'

/** One line of a file in the order of `cargoColumns`, checked, as text that PostgreSQL takes. */
export type CargoCells = (string | null)[]

/** What is wrong with a file, and on which line. */
export class CargoFileError extends Error {
  statusCode = 400
  code = 'CARGO_FILE_INVALID'
}

type Parsed = { record: string[]; info: { lines: number } }

const header = cargoColumns.join(',')

/**
 * Reads the header, and returns the lines below it, read as the file arrives.
 * @throws CargoFileError, here for the header and from the iterator for a line
 */
export async function openCargoFile(file: Readable): Promise<AsyncGenerator<CargoCells>> {
  const parser = parse({
    bom: true,
    info: true,
    relax_column_count: true,
    skip_empty_lines: true,
    // A quote that is never closed would otherwise take the rest of the file into memory.
    max_record_size: 65_536
  })
  // The iterator tells of the error.
  const parsed = pipeline(file, checkUtf8(), parser, () => {}) as unknown as AsyncIterable<Parsed>
  const records = parsed[Symbol.asyncIterator]()
  const first = await nextRecord(records)
  if (first === undefined) throw new CargoFileError(`line 1: the file is empty, it must begin with ${header}`)
  const names = first.record.join(',')
  if (names !== header) {
    throw new CargoFileError(`line 1: the header must be ${header}, got ${excerpt(names)}`)
  }
  return readLines(records)
}

async function* readLines(records: AsyncIterator<Parsed>): AsyncGenerator<CargoCells> {
  try {
    for (;;) {
      const next = await nextRecord(records)
      if (next === undefined) return
      yield checkLine(next)
    }
  } finally {
    await records.return?.()
  }
}

async function nextRecord(records: AsyncIterator<Parsed>): Promise<Parsed | undefined> {
  try {
    const { done, value } = await records.next()
    return done ? undefined : value
  } catch (error) {
    if (!(error instanceof CsvError)) throw error
    throw new CargoFileError(`line ${error.lines}: ${error.message}`, { cause: error })
  }
}

function checkLine({ record, info }: Parsed): CargoCells {
  if (record.length !== cargoColumns.length) {
    throw new CargoFileError(
      `${place(record, info)}: ${cargoColumns.length} cells expected, got ${record.length}`
    )
  }
  return record.map((cell, index) => {
    const name = cargoColumns[index] as (typeof cargoColumns)[number]
    const reason = checks[name](cell)
    if (reason !== undefined) {
      throw new CargoFileError(`${place(record, info)}, column ${name}: ${excerpt(cell)} ${reason}`)
    }
    return name === 'delivered_on' && cell === '' ? null : cell
  })
}

/** A record ends on the line that the parser counts, and begins above it when its cells hold line breaks. */
function place(record: string[], { lines }: { lines: number }): string {
  const breaks = record.join('').match(/\r\n|\n|\r/g)?.length ?? 0
  return `line ${lines - breaks}`
}

function excerpt(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}

/** Why a cell cannot be stored as it stands, if so: nothing is rounded or cut in silence. */
const checks: Record<(typeof cargoColumns)[number], (cell: string) => string | undefined> = {
  number: (cell) => {
    if (!/^\d+$/.test(cell)) return 'is not a whole number'
    return cell.length > 18 ? 'is too large: at most 18 digits' : undefined
  },
  commodity: checkText,
  origin: checkText,
  destination: checkText,
  weight: (cell) => {
    if (!/^\d+(\.\d+)?$/.test(cell)) return 'is not a decimal number'
    return /^\d{1,9}(\.\d{1,3})?$/.test(cell)
      ? undefined
      : 'does not fit: at most 9 digits, and 3 after the point'
  },
  shipped_at: (cell) =>
    isTime(cell) ? undefined : 'is not a time with its zone, such as 2026-01-31 23:59:59.5+00',
  delivered_on: (cell) =>
    cell === '' || isDate(cell) ? undefined : 'is not a date, such as 2026-01-31, and not empty'
}

function checkText(cell: string): string | undefined {
  return cell.includes('\0') ? 'holds a NUL character' : undefined
}

function isDate(text: string): boolean {
  const match = /^((?:19|20|21)\d\d)-(\d\d)-(\d\d)$/.exec(text)
  if (match === null) return false
  const [year, month, day] = match.slice(1).map(Number) as [number, number, number]
  return month >= 1 && month <= 12 && day >= 1 && day <= new Date(Date.UTC(year, month, 0)).getUTCDate()
}

function isTime(text: string): boolean {
  return (
    /^.{10}[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-](0\d|1[0-4])(:?[0-5]\d)?)$/.test(text) &&
    isDate(text.slice(0, 10))
  )
}

/** Passes bytes on as they are. The CSV parser would replace those that are not UTF-8 in silence. */
function checkUtf8(): Transform {
  let rest: Buffer = Buffer.alloc(0)
  let line = 1
  const check = (bytes: Buffer): void => {
    if (!isUtf8(bytes)) {
      const before = bytes.toString('latin1', 0, firstInvalid(bytes))
      throw new CargoFileError(`line ${line + countBreaks(before)}: the bytes are not UTF-8`)
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

function countBreaks(text: Buffer | string): number {
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
