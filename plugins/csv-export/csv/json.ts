import { types } from 'node:util'
import { hidingKind } from './kinds.ts'

/**
 * The text of an object in a cell: base64 for bytes, a string for what JSON makes a string of (a Decimal, an ObjectId, a
 * URL), else JSON; null for what JSON makes null or nothing of.
 * @throws TypeError if JSON would lose something
 */
export function objectText(value: object): string | null {
  if (types.isUint8Array(value)) {
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64')
  }
  const text: string | undefined = JSON.stringify(value)
  // csv-stringify does not know a Date of another realm.
  if (text === 'null' && types.isDate(value)) throw new RangeError('an invalid Date')
  if (text === undefined || text === 'null') return null
  if (text.startsWith('"')) return JSON.parse(text)
  // A look at each value takes up to twice as long.
  if (text.includes('{}')) JSON.stringify(value, refuseLoss)
  return text
}

function refuseLoss(_key: string, value: unknown): unknown {
  if (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.keys(value).length === 0
  ) {
    const kind = hidingKind(value)
    if (kind !== undefined) {
      throw new TypeError(`JSON can hold nothing of ${kind}: make a value of it, or give "cast.object"`)
    }
  }
  return value
}
