import { Stringifier, type Options as StringifyOptions } from 'csv-stringify'

/** What is used of csv-stringify's Stringifier that its types do not have; record-stringifier.test.ts holds it to it. */
export interface Insides {
  readonly options: { -readonly [Name in keyof Stringifier['options']]: Stringifier['options'][Name] }
  readonly api: {
    stringify(record: object, isHeader?: boolean): [error: Error | undefined, text?: string]
  }
  readonly info: { records: number }
}

/** csv-stringify's text of a record, without what its stream costs for each. */
export class RecordStringifier {
  readonly options: Readonly<Stringifier['options']>
  readonly #insides: Insides

  constructor(options: StringifyOptions) {
    this.#insides = new Stringifier(options) as unknown as Insides
    this.options = { ...this.#insides.options }
  }

  set casts(casts: NonNullable<StringifyOptions['cast']>) {
    this.#insides.options.cast = casts
  }

  /** @param cells those of all columns: what they mean is decided before */
  stringify(cells: readonly unknown[], isHeader = false): string {
    const { api, info, options } = this.#insides
    const { quoted_empty } = this.options
    // The record of one empty field would be a blank line, which many readers skip.
    options.quoted_empty = cells.length === 1 ? (quoted_empty ?? true) : quoted_empty
    const [error, text] = api.stringify(cells, isHeader)
    if (error !== undefined) throw error
    if (!isHeader) info.records++
    return text as string
  }
}
