import { describe } from '../describe.ts'
import { isOrdinary } from './cells.ts'
import { kindOfNoRow } from './objects.ts'

/** Stands for no prototype where a WeakMap has to have a key. */
const noPrototype = {}

/** Tells rows from what is none, and what of a row is written. */
export class RowRecords {
  /** Whether the last record that was no array inherits nothing of a built-in class but what is in `Object.prototype`. */
  isOrdinary = true
  /** That of the last record that was no array, if it is ordinary. */
  ordinaryPrototype: object | null | undefined
  readonly columnsGiven: boolean
  readonly #known = new WeakMap<object, boolean>()
  #prototype: object | null | undefined

  constructor(columnsGiven: boolean) {
    this.columnsGiven = columnsGiven
  }

  /**
   * The row itself where the columns say what to read of it, else what it would be in JSON.
   * @throws TypeError if it is no row
   */
  recordOf(row: unknown): object {
    if (typeof row !== 'object' || row === null) throw refusal(describe(row))
    if (Array.isArray(row)) return row
    this.#check(row)
    if (this.columnsGiven) return row
    const { toJSON } = row as { toJSON?: unknown }
    if (typeof toJSON !== 'function') return row
    const record: unknown = toJSON.call(row, '')
    if (typeof record !== 'object' || record === null) throw refusal(`${describe(record)} from its toJSON()`)
    if (!Array.isArray(record)) this.#check(record)
    return record
  }

  /** Once for rows of a class, as it costs as much as many cells. */
  #check(row: object): void {
    const prototype: object | null = Object.getPrototypeOf(row)
    if (prototype !== this.#prototype) {
      this.isOrdinary = this.#known.get(prototype ?? noPrototype) ?? this.#learn(row, prototype)
      this.#prototype = prototype
      this.ordinaryPrototype = this.isOrdinary ? prototype : undefined
    }
    // Some promises are objects of no class.
    const { then } = row as { then?: unknown }
    if (typeof then === 'function') this.#refuseNoRow(row)
  }

  #refuseNoRow(row: object): void {
    const kind = kindOfNoRow(row, this.columnsGiven)
    if (kind !== undefined) throw refusal(kind)
  }

  #learn(row: object, prototype: object | null): boolean {
    this.#refuseNoRow(row)
    const ordinary = isOrdinary(prototype)
    this.#known.set(prototype ?? noPrototype, ordinary)
    return ordinary
  }
}

function refusal(got: string): Error {
  return new TypeError(`yield an object or an array, got ${got}`)
}
