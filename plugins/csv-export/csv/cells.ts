import { types } from 'node:util'
import { Stringifier } from 'csv-stringify'
import { refusal } from '../options/option.ts'
import type { Column } from '../options/row-types.ts'
import type { Insides } from './record-stringifier.ts'

/** The column of a file: its key, its header, and the way to its cell in a row. */
export class FileColumn {
  readonly key: string
  readonly header: string
  /** Whether its cells are empty, whatever a row has. */
  readonly isMasked: boolean
  /** Whether its cell is another one than that under the key. */
  readonly isComputed: boolean
  /** Whether the cell of an ordinary row is the property of that name, and nothing else. */
  readonly isPlain: boolean
  readonly #path: readonly string[]
  readonly #value: ((row: any) => unknown) | undefined

  /**
   * @param viewer for whom the file is
   * @throws CSV_EXPORT_INVALID_OPTION, or what its `mask` throws
   */
  constructor(column: Column<any>, viewer?: unknown) {
    const { key, header = key, value, mask } = typeof column === 'string' ? { key: column } : column
    this.key = key
    this.header = header
    this.isMasked = mask !== undefined && isTrue(mask(viewer), key)
    this.#value = value
    this.isComputed = this.isMasked || value !== undefined
    this.#path = pathOf(key)
    this.isPlain =
      !this.isComputed && this.#path.length === 1 && this.#path[0] === key && !(key in Object.prototype)
  }

  /**
   * Its cell: what the row or its class has under the key, else where the key leads as a path; else undefined. What its
   * function makes of the row, if it has one, or nothing if it is masked.
   */
  cellOf(row: object): unknown {
    if (this.isMasked) return undefined
    if (this.#value !== undefined) return this.#value(row)
    if (this.key in row) return memberOf(row, this.key)
    return this.#path.length === 0 ? undefined : this.#path.reduce<unknown>(memberOf, row)
  }
}

/** A promise, which is true, would mask for all; what is nothing, for nobody. */
function isTrue(masked: unknown, key: string): boolean {
  if (typeof masked === 'boolean') return masked
  throw refusal(`mask of column ${JSON.stringify(key)}`, 'a function that returns true or false', masked)
}

/** The steps that csv-stringify takes for a key. It is asked, as its own notation of a path is the one that counts. */
function pathOf(key: string): string[] {
  // Without one of these it is no path, and the question costs as much as some rows.
  if (!key.includes('.') && !key.includes('[')) return [key]
  const steps: string[] = []
  const recorder: object = new Proxy(
    {},
    {
      has: () => false,
      get: (_target, step) => {
        steps.push(String(step))
        return recorder
      }
    }
  )
  const { api } = new Stringifier({ columns: [key], cast: { object: () => '' } }) as unknown as Insides
  api.stringify(recorder)
  return steps
}

/** A step into an object. A primitive has no members, an array its indices alone. */
function memberOf(owner: unknown, step: string): unknown {
  if (typeof owner !== 'object' || owner === null || types.isBoxedPrimitive(owner)) return undefined
  if (Array.isArray(owner)) return /^(?:0|[1-9]\d*)$/.test(step) ? owner[Number(step)] : undefined
  return isBuiltIn(owner, step) ? undefined : (owner as Record<string, unknown>)[step]
}

/** Whether a step leads to what every object of a built-in class has, such as `constructor`, or `size` of a Map. */
function isBuiltIn(owner: object, step: string): boolean {
  for (let at: object | null = owner; at !== null; at = Object.getPrototypeOf(at)) {
    const member = Object.getOwnPropertyDescriptor(at, step)
    if (member === undefined) continue
    return at !== owner && isBuiltInMember(step, member)
  }
  return false
}

function isBuiltInMember(name: string, { get, value, enumerable }: PropertyDescriptor): boolean {
  // A class has its constructor without having been given one.
  return isNative(get ?? value) || (name === 'constructor' && (!enumerable || typeof value === 'function'))
}

/** Written in no JavaScript, so part of some realm's language. */
export function isNative(value: unknown): boolean {
  return (
    typeof value === 'function' && /\{\s*\[native code\]\s*\}$/.test(Function.prototype.toString.call(value))
  )
}

/** Whether rows with this prototype inherit nothing of a built-in class but what is in `Object.prototype`. */
export function isOrdinary(prototype: object | null): boolean {
  for (let at = prototype; at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    const members = Object.entries(Object.getOwnPropertyDescriptors(at))
    if (members.some(([name, member]) => isBuiltInMember(name, member) && !(name in Object.prototype)))
      return false
  }
  return true
}
