import { Stringifier, type Options as StringifyOptions } from 'csv-stringify'
import { defined } from '../options/option.ts'
import type { FileSettings } from '../options/options.ts'
import { separatorsOf } from '../options/separators.ts'

/** What is used of csv-stringify's Stringifier that its types do not have; record-stringifier.test.ts holds it to it. */
export interface Insides {
  readonly options: { -readonly [Name in keyof Stringifier['options']]: Stringifier['options'][Name] }
  readonly api: {
    stringify(record: object, isHeader?: boolean): [error: Error | undefined, text?: string]
  }
  readonly info: { records: number }
}

/** The record that is being written, as far as its cells have to know. */
export interface CurrentRecord {
  kind: 'header' | 'row' | 'end mark'
  /** What a message calls it, such as `row 7`. */
  name: string
  /** Fields. */
  width: number
  /** Given if its cells were found by their keys: a cast is told the key then. */
  keyed: readonly { key: string }[] | undefined
  columns: readonly { key: string; isMasked: boolean }[] | undefined
}

const noCasts = {}

/** csv-stringify's text of a record, without what its stream costs for each. */
export class RecordStringifier {
  readonly options: Readonly<Stringifier['options']>
  /** Another file's, too: what is this one's own is given to it with each record. */
  readonly #insides: Insides
  casts: NonNullable<StringifyOptions['cast']>
  #records = 0

  constructor(options: StringifyOptions) {
    const { insides, settings } = stringifierFor(options)
    this.#insides = insides
    this.options = settings
    this.casts = settings.cast as NonNullable<StringifyOptions['cast']>
  }

  /** @param cells those of all columns: what they mean is decided before */
  stringify(cells: readonly unknown[], isHeader = false): string {
    const { api, info, options } = this.#insides
    const { quoted_empty } = this.options
    options.cast = this.casts
    info.records = this.#records
    // The record of one empty field would be a blank line, which many readers skip.
    options.quoted_empty = cells.length === 1 ? (quoted_empty ?? true) : quoted_empty
    try {
      const [error, text] = api.stringify(cells, isHeader)
      if (error !== undefined) throw error
      if (!isHeader) this.#records++
      return text as string
    } finally {
      // With what they refer to, they would outlive their file.
      options.cast = noCasts
    }
  }
}

interface Kept {
  given: StringifyOptions
  insides: Insides
  /** What csv-stringify has made of them. */
  settings: Readonly<Stringifier['options']>
}

/** Stringifiers. */
const mostKept = 20
const kept: Kept[] = []

/** One of the last few if it was made for the same: to make one takes as long as some rows. */
function stringifierFor(given: StringifyOptions): Kept {
  // What may be changed later, such as a list of patterns, is compared with nothing.
  if (Object.values(given).some((value) => typeof value === 'object')) return create(given)
  const found = kept.findIndex((other) => isSame(other.given, given))
  const [stringifier = create(given)] = found === -1 ? [] : kept.splice(found, 1)
  kept.unshift(stringifier)
  if (kept.length > mostKept) kept.pop()
  return stringifier
}

function create(given: StringifyOptions): Kept {
  const insides = new Stringifier(given) as unknown as Insides
  return { given, insides, settings: { ...insides.options } }
}

function isSame(one: StringifyOptions, other: StringifyOptions): boolean {
  const names = Object.keys(one) as (keyof StringifyOptions)[]
  return names.length === Object.keys(other).length && names.every((name) => one[name] === other[name])
}

/** Our settings as csv-stringify's options. Columns and casts are not among them: what a cell is, it need not know. */
export function toStringifyOptions(settings: FileSettings): StringifyOptions {
  const { bom, eof, header, headerAsComment, quoted, quotedEmpty, quotedMatch, quotedString } = settings
  const { quoteRecordDelimiter } = settings
  const { delimiter, quote, escape: escapeCharacter, recordDelimiter } = separatorsOf(settings)
  const all = {
    bom,
    delimiter,
    eof,
    // It takes none for the empty text, which is in every field.
    escape: escapeCharacter || '"',
    header,
    header_as_comment: headerAsComment,
    quote,
    quoted,
    quoted_empty: quotedEmpty,
    quoted_match: quotedMatch,
    quoted_string: quotedString,
    quote_record_delimiter: quoteRecordDelimiter,
    record_delimiter: recordDelimiter
  }
  // Each name costs it a regular expression.
  return defined(all) as StringifyOptions
}
