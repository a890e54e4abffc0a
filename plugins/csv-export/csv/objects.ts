import { types } from 'node:util'

type Test = (value: object) => boolean

const tagged = (tag: string): Test => {
  return (value) => Object.prototype.toString.call(value) === `[object ${tag}]`
}

/**
 * What keeps its contents where neither its properties nor JSON show them. Asked of V8 where it knows, as objects of
 * another realm, a worker's or a test runner's, are the same to it.
 */
const hiding: [name: string, test: Test][] = [
  ['a generator: "yield*" gives its rows', types.isGeneratorObject],
  ['a Promise (await it first)', (value) => types.isPromise(value) || isFunction(value, 'then')],
  ['a Map', types.isMap],
  ['a Set', types.isSet],
  ['a WeakMap', types.isWeakMap],
  ['a WeakSet', types.isWeakSet],
  ['a WeakRef', tagged('WeakRef')],
  ['an Error', (value) => types.isNativeError(value) || value instanceof Error],
  ['a RegExp', types.isRegExp],
  ['an ArrayBuffer', types.isAnyArrayBuffer],
  ['a DataView', types.isDataView],
  ['a symbol', types.isSymbolObject],
  ['a Blob', tagged('Blob')],
  ['a Headers object', tagged('Headers')],
  ['a FormData object', tagged('FormData')],
  ['a URLSearchParams object', tagged('URLSearchParams')],
  ['an iterator', (value) => isFunction(value, 'next') && isIterable(value)]
]

/** What is a cell's value, and would be a blank record. */
const values: [name: string, test: Test][] = [
  ['a Buffer or another view of bytes', ArrayBuffer.isView],
  ['an object around a primitive', types.isBoxedPrimitive]
]

const noRows = [...hiding, ...values]

/** The kind of an object that JSON makes `{}` of though there is something in it; undefined if it is none. */
export function hidingKind(value: object): string | undefined {
  const found = hiding.find(([, test]) => test(value))
  if (found !== undefined) return found[0]
  return isIterable(value) && !ArrayBuffer.isView(value) ? 'an iterable' : undefined
}

/**
 * The kind of an object that is no row; undefined if it is one.
 * @param columnsGiven whether its columns are known: then what has them as properties is a row
 */
export function kindOfNoRow(value: object, columnsGiven: boolean): string | undefined {
  if (types.isDate(value)) return columnsGiven ? undefined : 'a Date'
  const [name] = noRows.find(([, test]) => test(value)) ?? []
  if (name === 'an Error' && columnsGiven) return undefined
  if (name !== undefined || columnsGiven) return name
  return isIterable(value) && Object.keys(value).length === 0 ? 'an iterable without properties' : undefined
}

function isIterable(value: object): boolean {
  return isFunction(value, Symbol.iterator) || isFunction(value, Symbol.asyncIterator)
}

function isFunction(value: object, name: string | symbol): boolean {
  return typeof (value as Record<string | symbol, unknown>)[name] === 'function'
}

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
