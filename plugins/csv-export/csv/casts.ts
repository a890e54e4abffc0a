import type { Cast, CastReturnObject, Options as StringifyOptions } from 'csv-stringify'
import { describe } from '../describe.ts'
import { CSV_EXPORT_FORMULA, CSV_EXPORT_INVALID_ROW } from '../errors.ts'
import { textOf } from '../guard.ts'
import { castTypes, type TextOptions } from '../options/text.ts'
import type { FormulaGuard } from './formulas.ts'
import { objectText } from './objects.ts'
import type { Quoting } from './quoting.ts'
import type { CurrentRecord } from './record-stringifier.ts'

/** Where csv-stringify's own would surprise the reader of a report; docs/csv-format.md lists each. */
const defaultCasts: NonNullable<StringifyOptions['cast']> = {
  string: String,
  number: String,
  bigint: String,
  boolean: String,
  date: (value) => {
    if (Number.isNaN(value.getTime())) throw new RangeError('an invalid Date')
    return value.toISOString()
  },
  object: objectText
}

/** Types whose text is somebody else's, so that it may be a formula; besides those of a cast that is given. */
const guardedTypes = ['string', 'object']

/** Our casts and those given, so that a failure says where, and that the text can be written and read again. */
export function makeCasts(
  given: TextOptions['cast'],
  current: Readonly<CurrentRecord>,
  formulas: FormulaGuard | undefined,
  quoting: Quoting
): NonNullable<StringifyOptions['cast']> {
  const casts: Record<string, Cast<unknown>> = {}
  for (const type of castTypes) {
    const isGiven = given?.[type] !== undefined
    const cast = given?.[type] ?? defaultCasts[type]
    const guard = isGiven || guardedTypes.includes(type) ? formulas : undefined
    if (cast !== undefined) casts[type] = wrap(cast as Cast<unknown>, isGiven, guard)
  }
  return casts as NonNullable<StringifyOptions['cast']>

  function wrap(cast: Cast<unknown>, isGiven: boolean, guard: FormulaGuard | undefined): Cast<unknown> {
    return (value, context) => {
      const { index } = context
      if (current.kind === 'row' && current.columns?.[index]?.isMasked) return null
      try {
        const isMark = current.kind === 'end mark'
        const key = current.keyed?.[index]?.key
        // The end mark is the server's own text, and its readers look for it as it was given.
        const result = isMark
          ? (value as string)
          : cast(value, isGiven && key !== undefined ? { ...context, column: key } : context)
        const isText = typeof result === 'string'
        const options = isText || !isObject(result) ? undefined : optionsOf(result, quoting.separators)
        const text = isText ? result : cellText(result)
        if (!text) return options ?? result
        const safe = guard === undefined || isMark ? text : guard.guard(text)
        if (safe === undefined) throw new CSV_EXPORT_FORMULA(current.name, columnName(current, index))
        const quoted = quoting.needsQuotes(safe, index, current)
        // csv-stringify takes four times as long for options of a cell.
        if (options === undefined) return quoted && !quoting.isEverywhere ? { value: safe, quoted } : safe
        return { ...options, value: safe, ...(quoted && { quoted }) }
      } catch (error) {
        throw inColumn(current, index, error)
      }
    }
  }
}

/** The text that a cast returned. csv-stringify itself writes nothing for some results that are none: `{ value: 0 }`. */
function cellText(result: unknown): string | null | undefined {
  const text = isObject(result) && 'value' in result ? result.value : result
  if (text === undefined || text === null || typeof text === 'string') return text
  throw new TypeError(
    `a cast returned ${describe(text)} instead of a string, { value: string }, null or undefined`
  )
}

/** What a cast asks for. A record with separators of its own could not be read. */
function optionsOf(result: object, separators: Readonly<Record<string, string>>): CastReturnObject {
  const options = Object.entries(result).filter(([name, value]) => {
    const separator = Object.hasOwn(separators, name) ? separators[name] : undefined
    if (separator === undefined) return true
    if (value !== undefined && value !== null && separatorText(value) !== separator) {
      throw new TypeError(`a cast returned its own "${name}": it has to be that of the whole file`)
    }
    return false
  })
  return Object.fromEntries(options) as unknown as CastReturnObject
}

/** `quote` may be a boolean. */
function separatorText(value: unknown): string {
  return value === true ? '"' : value === false ? '' : String(value)
}

/** The error of a cell, with its place; errors that have one are left as they are. */
export function inColumn(current: Readonly<CurrentRecord>, index: number, error: unknown): Error {
  if (isOwn(error)) return error
  return invalidRow(current, `column ${columnName(current, index)}: ${textOf(error)}`, error)
}

export function invalidRow({ name }: Readonly<CurrentRecord>, reason: string, cause?: unknown): Error {
  const error = new CSV_EXPORT_INVALID_ROW(name, reason)
  if (cause !== undefined) error.cause = cause
  return error
}

/** Its key, or its number when there are only arrays. */
function columnName({ columns }: Readonly<CurrentRecord>, index: number): string {
  const column = columns?.[index]
  return column === undefined ? String(index + 1) : JSON.stringify(column.key)
}

export function isOwn(error: unknown): error is Error {
  return error instanceof CSV_EXPORT_INVALID_ROW || error instanceof CSV_EXPORT_FORMULA
}

function isObject(value: unknown): value is { value?: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
