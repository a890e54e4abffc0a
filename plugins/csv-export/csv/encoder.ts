import { textOf } from '../guard.ts'
import type { FileSettings } from '../options/options.ts'
import type { Column } from '../options/row-types.ts'
import type { NameList } from '../receipts/receipts.ts'
import { inColumn, invalidRow, isOwn, makeCasts } from './casts.ts'
import { FileColumn } from './cells.ts'
import { ColumnUse } from './column-use.ts'
import { FormulaGuard } from './formulas.ts'
import { plainRowWriter } from './plain-rows.ts'
import { Quoting } from './quoting.ts'
import { type CurrentRecord, RecordStringifier, toStringifyOptions } from './record-stringifier.ts'
import { RowRecords } from './row-records.ts'
import type { RowWriter } from './row-writer.ts'

/** Turns the items of one reply into text, in order. Knows nothing of HTTP. */
export interface Encoder<T> {
  /** Items encoded so far. */
  readonly count: number
  /** The text of one item. Throws an error that says its number. */
  encode(item: T): string | Uint8Array
  /** Cells so far, header cells among them, that `formulas: 'escape'` put a `'` in front of. */
  readonly escapedCells: number
  /** Columns that no item has had a value for; null if there is none. */
  readonly columnsWithoutValue: NameList | null
  /** Keys of items that have been left out, as the first item made no column for them; null if there is none. */
  readonly keysWithoutColumn: NameList | null
  /** What stands before the next item and is known without it: each part of it once. May be left uncalled. */
  begin(): string
  /** What remains to be written after the last item. */
  end(): string
}

/** For rows of which there have been none before, a shorter way is worth it from here on. */
const rowsOfLongFile = 250

/** Rows to CSV text: csv-stringify, and a shorter way for rows that need nothing but quoting. */
export class CsvEncoder implements Encoder<unknown> {
  count = 0
  readonly #formulas: FormulaGuard | undefined
  readonly #stringifier: RecordStringifier
  readonly #namesOfSource: () => readonly string[] | undefined
  readonly #plainRowsWanted: boolean
  readonly #excel: boolean
  readonly #endMark: string | undefined
  readonly #current: CurrentRecord
  readonly #viewer: unknown
  #columns: readonly FileColumn[] | undefined
  #hasComputed = false
  #records = new RowRecords(false)
  #use: ColumnUse | undefined
  #firstWidth = 1
  #writePlainRow: RowWriter | undefined
  #bomWritten = false
  #headerWritten = false
  #recordWritten = false

  /**
   * @param namesOfSource asked before each part of the file until its first row, where no `columns` are given
   * @param viewer for whom the file is
   */
  constructor(
    settings: FileSettings,
    namesOfSource: () => readonly string[] | undefined = () => undefined,
    viewer?: unknown
  ) {
    this.#namesOfSource = namesOfSource
    this.#viewer = viewer
    this.#formulas = FormulaGuard.for(settings.formulas)
    this.#stringifier = new RecordStringifier(toStringifyOptions(settings))
    this.#excel = settings.excel
    this.#plainRowsWanted = settings.encoder === 'auto' && settings.cast === undefined
    this.#endMark = settings.endMark
    this.#current = { kind: 'row', name: 'row 1', width: 1, keyed: undefined, columns: undefined }
    const quoting = new Quoting(this.#stringifier.options, this.#excel)
    this.#stringifier.casts = makeCasts(settings.cast, this.#current, this.#formulas, quoting)
    if (settings.columns !== undefined) this.#giveColumns(settings.columns)
  }

  get escapedCells(): number {
    return this.#formulas?.escapedCells ?? 0
  }

  get columnsWithoutValue(): NameList | null {
    return this.count === 0 ? null : (this.#use?.columnsWithoutValue ?? null)
  }

  get keysWithoutColumn(): NameList | null {
    return this.#use?.keysWithoutColumn ?? null
  }

  encode(row: unknown): string {
    try {
      const text = (this.#hasComputed ? undefined : this.#encodePlain(row)) ?? this.#encodeRecord(row)
      this.count++
      return text
    } catch (error) {
      throw isOwn(error) ? error : this.#invalid(textOf(error), error)
    }
  }

  begin(): string {
    const { bom, header, header_as_comment } = this.#stringifier.options
    if (this.count === 0) this.#askSource()
    let text = ''
    if (!this.#bomWritten && bom) text += '\ufeff'
    this.#bomWritten = true
    if (this.#headerWritten || !header || this.#columns === undefined) return text
    this.#headerWritten = true
    if (header_as_comment) text += `${header_as_comment} `
    const cells = this.#columns.map((column) => column.header)
    return text + this.#write('header', 'header', cells)
  }

  end(): string {
    const head = this.begin()
    if (this.#endMark === undefined) return head
    const width = this.#columns?.length ?? this.#firstWidth
    const cells = Array.from({ length: width }, (_, index) =>
      index === 0 ? `${this.#endMark} ${this.count}` : ''
    )
    return head + this.#write('end mark', 'end', cells)
  }

  /** The text of a plain row; undefined if csv-stringify has to write it. */
  #encodePlain(row: unknown): string | undefined {
    if (this.#writePlainRow === undefined) return undefined
    const formulas = this.#formulas
    const escapedCells = formulas?.escapedCells
    try {
      const text = this.#writePlainRow(row)
      if (text !== undefined) return text
    } catch {
      // A getter that throws, a Date that is none: csv-stringify fails there too, and our casts say where.
    }
    // What was escaped before the row turned out not to be plain is escaped, and counted, once more.
    if (formulas !== undefined) formulas.escapedCells = escapedCells as number
    return undefined
  }

  #encodeRecord(row: unknown): string {
    if (this.count === 0) this.#askSource()
    const { ordinaryPrototype } = this.#records
    const record = this.#records.recordOf(row)
    // Once: a column's function may count its calls.
    const cells = this.#hasComputed ? this.#cellsOf(record) : undefined
    const isOther =
      cells !== undefined || record !== row || this.#records.ordinaryPrototype !== ordinaryPrototype
    return (isOther ? this.#encodePlain(cells ?? record) : undefined) ?? this.#encodeOther(record, cells)
  }

  #encodeOther(record: object, computed: unknown[] | undefined): string {
    if (this.#columns === undefined) this.#discoverColumns(record)
    const head = this.begin()
    const keyed = Array.isArray(record) ? undefined : this.#columns
    const cells = computed ?? this.#cellsOf(record)
    this.#use?.seeCells(cells)
    if (keyed !== undefined && this.#use?.countsKeys) this.#use.seeKeys(record)
    const text = head + this.#write('row', `row ${this.count + 1}`, cells, keyed)
    if (this.count === 0) this.#firstWidth = cells.length
    if (this.count === 0 || this.count === rowsOfLongFile) this.#findPlainRowWriter(computed ?? record)
    return text
  }

  #findPlainRowWriter(row: object): void {
    if (!this.#plainRowsWanted) return
    this.#writePlainRow = plainRowWriter(this.#stringifier.options, {
      row,
      columns: this.#columns,
      use: this.#use,
      records: this.#records,
      formulas: this.#formulas,
      excel: this.#excel,
      isLong: this.count > 0
    })
  }

  #discoverColumns(record: object): void {
    if (Array.isArray(record)) {
      if (!this.#stringifier.options.header) return
      throw this.#invalid('an array has no column names: give "columns", or "header: false"')
    }
    if (this.count > 0) throw this.#invalid('an object after rows that are arrays: give "columns"')
    const keys = Object.keys(record)
    if (keys.length === 0) throw this.#invalid('an object without properties has no columns: give "columns"')
    this.#setColumns(keys, true)
  }

  #askSource(): void {
    if (this.#columns !== undefined) return
    const names = this.#namesOfSource()
    if (names !== undefined) this.#giveColumns(names)
  }

  #giveColumns(columns: readonly Column<any>[]): void {
    this.#setColumns(columns, false)
    this.#records = new RowRecords(true)
  }

  #setColumns(columns: readonly Column<any>[], fromFirstRow: boolean): void {
    this.#columns = columns.map((column) => new FileColumn(column, this.#viewer))
    this.#hasComputed = this.#columns.some(({ isComputed }) => isComputed)
    this.#current.columns = this.#columns
    this.#use = new ColumnUse(this.#columns, fromFirstRow)
  }

  #cellsOf(record: object): unknown[] {
    const columns = this.#columns
    const array = Array.isArray(record) ? record : undefined
    // A record has at least one field: without any it would be a blank line.
    const width = columns?.length ?? Math.max(1, (array as unknown[]).length)
    if (array !== undefined && array.length > width) {
      throw this.#invalid(`an array of ${array.length} cells for ${width} columns`)
    }
    // A short array gets empty fields: csv-stringify would end its record early, and readers miss fields.
    const cells: unknown[] = []
    for (let index = 0; index < width; index++) {
      try {
        cells.push(writable(this.#cellOf(record, columns?.[index], index)))
      } catch (error) {
        throw inColumn({ ...this.#current, name: `row ${this.count + 1}` }, index, error)
      }
    }
    return cells
  }

  #cellOf(record: object, column: FileColumn | undefined, index: number): unknown {
    const isOfArray = Array.isArray(record) && !column?.isComputed
    if (isOfArray || column === undefined) return (record as unknown[])[index]
    return column.isPlain && this.#records.isOrdinary
      ? (record as Record<string, unknown>)[column.key]
      : column.cellOf(record)
  }

  #write(
    kind: CurrentRecord['kind'],
    name: string,
    cells: readonly unknown[],
    keyed?: readonly FileColumn[]
  ): string {
    const { eof, record_delimiter } = this.#stringifier.options
    const current = Object.assign(this.#current, { kind, name, keyed, width: cells.length })
    try {
      const text = this.#stringifier.stringify(cells, kind === 'header')
      const line = eof ? text + record_delimiter : this.#recordWritten ? record_delimiter + text : text
      this.#recordWritten = true
      return line
    } catch (error) {
      throw isOwn(error) ? error : invalidRow(current, textOf(error), error)
    }
  }

  #invalid(reason: string, cause?: unknown): Error {
    return invalidRow({ ...this.#current, name: `row ${this.count + 1}` }, reason, cause)
  }
}

function writable(value: unknown): unknown {
  if (typeof value !== 'symbol' && typeof value !== 'function') return value
  throw new TypeError(`a ${typeof value} cannot be written`)
}
