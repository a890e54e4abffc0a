import type { NameList } from '../receipts/receipts.ts'
import type { FileColumn } from './cells.ts'

const mostNames = 20
/** More are not counted, so that rows with keys of their own do not fill the memory. */
const mostCounted = 1_000

/** Columns that no row has had a value for so far, and keys that no column was made for. */
export class ColumnUse {
  /** Indices of columns. Mostly none after the first row, and then nobody has to ask. */
  unused: readonly number[]
  /** Whether the columns are the keys of the first row: those of later rows count then. */
  readonly countsKeys: boolean
  readonly #keys: readonly string[]
  readonly #known: ReadonlySet<string>
  readonly #unknown = new Set<string>()

  constructor(columns: readonly FileColumn[], countsKeys: boolean) {
    this.#keys = columns.map(({ key }) => key)
    this.#known = new Set(this.#keys)
    this.unused = [...columns.keys()]
    this.countsKeys = countsKeys
  }

  /** The column has a value in some row; null is one. */
  setUsed(index: number): void {
    this.unused = this.unused.filter((other) => other !== index)
  }

  seeKeys(row: object): void {
    const keys = this.#keys
    let index = 0
    for (const key of Object.keys(row)) {
      // Mostly in the order of the columns, of which some are left out.
      let at = index
      while (at < keys.length && keys[at] !== key) at++
      if (at < keys.length) index = at + 1
      else if (!this.#known.has(key)) this.#seeUnknown(row as Record<string, unknown>, key)
    }
  }

  #seeUnknown(row: Record<string, unknown>, key: string): void {
    if (this.#unknown.size < mostCounted && row[key] !== undefined) this.#unknown.add(key)
  }

  get columnsWithoutValue(): NameList | null {
    return names(this.unused.map((index) => this.#keys[index] as string))
  }

  get keysWithoutColumn(): NameList | null {
    return names([...this.#unknown])
  }
}

function names(all: string[]): NameList | null {
  return all.length === 0 ? null : { count: all.length, names: all.slice(0, mostNames) }
}
