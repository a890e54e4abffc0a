import type { ColumnUse } from './column-use.ts'
import type { FormulaGuard } from './formulas.ts'
import { codeOf, type Layout } from './plain/row-code.ts'
import type { RowRecords } from './row-records.ts'

/** The text of a row's record, or undefined if it is not for this function to write. */
export type RowWriter = (row: unknown) => string | undefined

/** The texts of values in one layout. */
export interface Texts {
  ofText: (value: string) => string
  ofNumber: (value: number) => string
  ofDelimiterAndNumber: (value: number) => string
  /** Of what is no string, number, boolean or null; undefined if the row is not for a function to write. */
  ofOther: (value: unknown) => string | undefined
  isMisreadFirst: (text: string) => boolean
  isEndOfData: (text: string) => boolean
}

/** What a function works with in one file. */
export interface FileParts {
  /** Objects of another class than its last are not written. */
  records: RowRecords
  formulas: FormulaGuard | undefined
  use: ColumnUse | undefined
}

type Factory = (file: FileParts) => RowWriter

/** Layouts. */
const mostKept = 200
/** Characters of a layout's name. Names of columns may be a client's, and what is made of them is several times as long. */
const longestKept = 100_000
const kept = new Map<string, Factory>()
/** Of which there has been one short file. Apart, so that columns that each client names anew drive out no function. */
const seenOnce = new Map<string, true>()

/** Node may have been started with `--disallow-code-generation-from-strings`. */
export const canMakeWriters: boolean = (() => {
  try {
    return new Function() instanceof Function
  } catch {
    return false
  }
})()

/**
 * A function made for the rows of one layout. Its code names each property: V8 then reads it from where it stands, as in
 * code that was written for this report, whatever other reports the process makes. Each column has its last two texts
 * at hand, with the delimiter, in case they come again.
 *
 * To make one takes as long as to write about 250 rows with csv-stringify.
 * @param isLong whether the file has been found to be worth it
 * @returns undefined for a layout that is new, in a file that may be short
 */
export function rowWriterFor(
  layout: Layout,
  textsFor: (layout: Layout) => Texts,
  file: FileParts,
  isLong: boolean
): RowWriter | undefined {
  const name = nameOf(layout)
  let factory = kept.get(name)
  if (factory === undefined) {
    const isNew = !seenOnce.delete(name)
    if (isNew && !isLong) {
      keep(seenOnce, name, true)
      return undefined
    }
    factory = new Function('texts', 'keys', codeOf(layout))(textsFor(layout), layout.keys) as Factory
  }
  keep(kept, name, factory)
  return factory(file)
}

/** Each part with its length, so that no two layouts have the same. */
function nameOf(layout: Layout): string {
  const { keys, isShortAllowed, heedsToJSON, countsKeys, guardsFormulas, excel } = layout
  const { delimiter, quote, recordDelimiter, comment } = layout
  let name = `${[isShortAllowed, heedsToJSON, countsKeys, guardsFormulas, excel]}`
  for (const text of [delimiter, quote, recordDelimiter, comment]) name += ` ${text.length} ${text}`
  if (typeof keys === 'number') return `${name} ${keys}`
  for (const key of keys) name += ` ${key.length} ${key}`
  return name
}

/** The layout that was not used for longest goes. */
function keep<T>(layouts: Map<string, T>, name: string, value: T): void {
  layouts.delete(name)
  if (name.length > longestKept) return
  layouts.set(name, value)
  const [oldest] = layouts.keys()
  if (layouts.size > mostKept) layouts.delete(oldest as string)
}
