import type { NameList } from '../receipts/receipts.ts'
import type { FileColumn } from './cells.ts'

const mostNames = 20
/** More are not counted, so that rows with keys of their own do not fill the memory. */
const mostCounted = 1_000

/** Columns that no row has had a value for so far, and keys that no column was made for. */
export class ColumnUse {
  /** Indices of columns, in any order. Mostly none after the first row, and then nobody has to ask. */
  readonly unused: number[]
  /** Whether the columns are the keys of the first row: those of later rows count then. */
  readonly countsKeys: boolean
  readonly #keys: readonly string[]
  #known: ReadonlySet<string> | undefined
  readonly #unknown = new Set<string>()
  /** Keys with nothing left to be seen: mostly those of the next row too. */
  #seen: readonly string[]

  constructor(columns: readonly FileColumn[], countsKeys: boolean) {
    this.#keys = columns.map(({ key }) => key)
    this.unused = []
    for (const [index, { isMasked }] of columns.entries()) {
      // What is masked is not missing.
      if (!isMasked) this.unused.push(index)
    }
    this.countsKeys = countsKeys
    this.#seen = countsKeys ? this.#keys : []
  }

  /** A column has a value if a cell of it is not undefined. */
  seeCells(cells: readonly unknown[]): void {
    const { unused } = this
    for (let at = unused.length - 1; at >= 0; at--) {
      if (cells[unused[at] as number] !== undefined) this.#setUsed(at)
    }
  }

  /** The same for the cells of a row that are its properties. */
  seeCellsOf(row: Readonly<Record<string, unknown>>): void {
    const { unused } = this
    for (let at = unused.length - 1; at >= 0; at--) {
      if (row[this.#keys[unused[at] as number] as string] !== undefined) this.#setUsed(at)
    }
  }

  /** @param at where in `unused` the column stands; the last one is there after it */
  #setUsed(at: number): void {
    const last = this.unused.pop() as number
    if (at < this.unused.length) this.unused[at] = last
  }

  seeKeys(row: object): void {
    const keys = Object.keys(row)
    if (isSame(keys, this.#seen)) return
    this.#known ??= new Set(this.#keys)
    let canBeSeenLater = false
    for (const key of keys) {
      if (this.#known.has(key) || this.#unknown.has(key) || this.#unknown.size === mostCounted) continue
      if ((row as Record<string, unknown>)[key] === undefined) canBeSeenLater = true
      else this.#unknown.add(key)
    }
    if (!canBeSeenLater) this.#seen = keys
  }

  get columnsWithoutValue(): NameList | null {
    if (this.unused.length === 0) return null
    const unused = this.unused.toSorted((one, other) => one - other)
    return names(unused.map((index) => this.#keys[index] as string))
  }

  get keysWithoutColumn(): NameList | null {
    return this.#unknown.size === 0 ? null : names([...this.#unknown])
  }
}

function isSame(keys: readonly string[], others: readonly string[]): boolean {
  if (keys.length !== others.length) return false
  for (let index = 0; index < keys.length; index++) if (keys[index] !== others[index]) return false
  return true
}

function names(all: string[]): NameList {
  return { count: all.length, names: all.slice(0, mostNames) }
}
