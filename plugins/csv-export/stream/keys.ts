import { describe } from '../describe.ts'

/** A value that is equal in JavaScript where it is equal in the database, and that goes back there as it came. */
type Part = string | number | bigint | boolean
/** The parts of a compound key, or the only one. */
export type Key = readonly Part[]
type Refusal = (problem: string) => Error

/** Reads keys, and compares them as far as that can be done without the database. */
export class Keys {
  readonly #names: readonly string[]
  readonly #isList: boolean
  /** Of each part, 1 where it ascends and -1 where it descends, once two numbers have shown it. */
  readonly #directions: (number | undefined)[] = []

  /** @param names a list where keys are arrays of parts */
  constructor(names: string | readonly string[]) {
    this.#isList = typeof names !== 'string'
    this.#names = typeof names === 'string' ? [names] : names
  }

  /** @throws what `refusal` makes of a problem */
  ofRow(row: unknown, refusal: Refusal): Key {
    if (typeof row !== 'object' || row === null) {
      throw refusal(`it is ${describe(row)}, and has to be an object`)
    }
    return this.#checked((name) => (row as Record<string, unknown>)[name], refusal)
  }

  /** @throws as `ofRow()` */
  ofBound(bound: unknown, refusal: Refusal): Key {
    if (!this.#isList) return this.#checked(() => bound, refusal)
    if (Array.isArray(bound)) return this.#checked((_name, index) => bound[index], refusal)
    throw refusal(`it gave ${describe(bound)}, and "key" is a list: give an array`)
  }

  /** As it is given to who asks the database. */
  toValue(key: Key): unknown {
    return this.#isList ? key : key[0]
  }

  /** 0 where they are equal, -1 where the second cannot come after the first, and 1 where it does, or may. */
  compare(first: Key, second: Key): -1 | 0 | 1 {
    for (let index = 0; index < first.length; index++) {
      const sign = signOf(first[index] as Part, second[index] as Part)
      if (sign === undefined) return 1
      if (sign === 0) continue
      this.#directions[index] ??= sign
      return this.#directions[index] === sign ? 1 : -1
    }
    return 0
  }

  #checked(read: (name: string, index: number) => unknown, refusal: Refusal): Key {
    return this.#names.map((name, index) => {
      const value = read(name, index)
      if (isPart(value)) return value
      const problem =
        value === undefined || value === null
          ? 'each part of the key has to be there, and is never NULL'
          : 'digits of it may have been lost, so give it as text'
      throw refusal(`"${name}" is ${describe(value)}: ${problem}`)
    })
  }
}

/** undefined where only the database knows, as of texts, whose order is that of its collation. */
function signOf(first: Part, second: Part): -1 | 0 | 1 | undefined {
  if (isNumeric(first) && isNumeric(second)) return first < second ? 1 : first > second ? -1 : 0
  return first === second ? 0 : undefined
}

function isNumeric(value: Part): value is number | bigint {
  return typeof value === 'number' || typeof value === 'bigint'
}

/** A Date has lost microseconds, and a number above 2^53 its last digits: rows would be lost at the bound, unseen. */
function isPart(value: unknown): value is Part {
  if (typeof value !== 'number') return ['string', 'bigint', 'boolean'].includes(typeof value)
  return Number.isInteger(value) ? Number.isSafeInteger(value) : !Number.isNaN(value)
}
