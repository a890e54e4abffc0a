import type { FileColumn } from './cells.ts'

/** The first names of a kind, and how many there are. */
export interface NameList {
  /** Of keys, 1,000 at most. */
  count: number
  /** 20 at most. */
  names: string[]
}

const mostNames = 20
/** More are not counted, so that rows with keys of their own do not fill the memory. */
const mostCounted = 1_000

/** Columns that no row has had a value for so far, and keys that no column was made for. */
export class ColumnUse {
  /** Indices of columns. */
  #unused: number[]
  readonly #columns: readonly FileColumn[]
  readonly #keys: ReadonlySet<string> | undefined
  readonly #unknown = new Set<string>()

  /** @param discovered whether the columns are the keys of the first row: those of later ones count then */
  constructor(columns: readonly FileColumn[], discovered: boolean) {
    this.#columns = columns
    this.#unused = [...columns.keys()]
    this.#keys = discovered ? new Set(columns.map(({ key }) => key)) : undefined
  }

  /** Whether cells still have to be looked at. */
  get isOpen(): boolean {
    return this.#unused.length > 0
  }

  /** Whether keys have to be looked at. */
  get countsKeys(): boolean {
    return this.#keys !== undefined
  }

  /** @param cellOf the value of a column in a row; null is one */
  seeCells(cellOf: (index: number) => unknown): void {
    this.#unused = this.#unused.filter((index) => cellOf(index) === undefined)
  }

  seeKeys(row: object): void {
    if (this.#keys === undefined) return
    for (const key of Object.keys(row)) {
      if (this.#keys.has(key) || this.#unknown.size >= mostCounted) continue
      if ((row as Record<string, unknown>)[key] !== undefined) this.#unknown.add(key)
    }
  }

  get columnsWithoutValue(): NameList | null {
    return names(this.#unused.map((index) => (this.#columns[index] as FileColumn).key))
  }

  get keysWithoutColumn(): NameList | null {
    return names([...this.#unknown])
  }
}

function names(all: string[]): NameList | null {
  return all.length === 0 ? null : { count: all.length, names: all.slice(0, mostNames) }
}
