import { pipeline, type Readable } from 'node:stream'
import { CsvError, type CsvErrorCode, parse } from 'csv-parse'
import { CargoFileError } from './cargo-file-error.ts'
import { cargoColumns } from './cargoes.ts'
import { checkBytes, countBreaks } from './check-bytes.ts'

/** One line of a file in the order of `cargoColumns`, checked, as text that PostgreSQL takes. */
export type CargoCells = (string | null)[]

/** A record of the file as it came, and the line on which it begins. */
interface Line {
  cells: string[]
  line: number
}

const header = cargoColumns.join(',')
const maxRecordSize = 65_536

/**
 * Reads the header, and returns the lines below it, read as the file arrives.
 * @throws CargoFileError, here for the header and from the iterator for a line
 */
export async function openCargoFile(file: Readable): Promise<AsyncGenerator<CargoCells>> {
  const lines = readLines(file)
  const { done, value } = await lines.next()
  if (done) throw new CargoFileError(`line 1: the file is empty, it must begin with ${header}`)
  const { cells, line } = value
  if (cells.join(',') !== header) {
    throw new CargoFileError(`line ${line}: the header must be ${header}, got ${excerpt(cells.join(','))}`)
  }
  if (cells.length !== cargoColumns.length) {
    throw new CargoFileError(
      `line ${line}: quotes make one cell of several names, the header must be ${header}`
    )
  }
  return readCargoes(lines)
}

async function* readCargoes(lines: AsyncGenerator<Line>): AsyncGenerator<CargoCells> {
  for await (const line of lines) yield checkLine(line)
}

async function* readLines(file: Readable): AsyncGenerator<Line> {
  const place = new Place()
  const parser = parse({
    bom: true,
    // In step with the parser: records that wait to be read are lost to an error behind them. Its type has a record stay one.
    on_record: (cells, info) => ({ cells, line: place.next(cells, info) }) as unknown as string[],
    record_delimiter: ['\n', '\r\n'],
    relax_column_count: true,
    skip_empty_lines: true,
    // A quote that is never closed would otherwise take the rest of the file into memory.
    max_record_size: maxRecordSize
  })
  try {
    // The iterator tells of the error.
    yield* pipeline(file, checkBytes(), parser, () => {}) as unknown as AsyncIterable<Line>
  } catch (error) {
    if (!(error instanceof CsvError)) throw error
    const line = place.after(error as unknown as Info)
    throw new CargoFileError(`line ${line}: ${reasons[error.code] ?? error.message}`, { cause: error })
  }
}

/** Of what csv-parse gives with each record, and in its errors. */
interface Info {
  empty_lines: number
}

/** Where the parser is. Lines end with LF, also inside a cell, as in an editor; csv-parse would count each CR too. */
class Place {
  #line = 1
  #emptyLines = 0

  /** The line on which a record begins, which is then passed. */
  next(cells: string[], info: Info): number {
    const line = this.after(info)
    this.#line++
    for (const cell of cells) this.#line += countBreaks(cell)
    return line
  }

  /** The line on which the next record begins. */
  after({ empty_lines }: Info): number {
    this.#line += empty_lines - this.#emptyLines
    this.#emptyLines = empty_lines
    return this.#line
  }
}

/** csv-parse's own messages name the line where it has noticed, which may be far below. */
const reasons: Partial<Record<CsvErrorCode, string>> = {
  CSV_QUOTE_NOT_CLOSED: 'a quote that this record opens is not closed',
  CSV_INVALID_CLOSING_QUOTE: 'a cell of this record goes on after a closing quote, or a quote is missing',
  INVALID_OPENING_QUOTE: 'a quote stands inside a cell that does not begin with one',
  CSV_MAX_RECORD_SIZE: `this record has more than ${maxRecordSize} bytes, or a quote that it opens is not closed`
}

function checkLine({ cells, line }: Line): CargoCells {
  if (cells.length !== cargoColumns.length) {
    throw new CargoFileError(`line ${line}: ${cargoColumns.length} cells expected, got ${cells.length}`)
  }
  return cells.map((cell, index) => {
    const name = cargoColumns[index] as (typeof cargoColumns)[number]
    const reason = checks[name](cell)
    if (reason !== undefined) {
      throw new CargoFileError(`line ${line}, column ${name}: ${excerpt(cell)} ${reason}`)
    }
    return name === 'delivered_on' && cell === '' ? null : cell
  })
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
