import {
  boolean,
  booleanOrText,
  isArrayOf,
  isString,
  isText,
  type OptionsOf,
  option,
  rule
} from './option.ts'

type Pattern = string | RegExp

/** What is quoted, and how; as `TextOptions`, csv-stringify's, and not for rows that are encoded already. */
export interface QuotingOptions {
  /** The quote, one character; false or '' for none: a field with a separator in it is then an error. @default '"' */
  quote?: string | Buffer | boolean | undefined
  /** What stands before a quote inside a quoted field: one character. @default what `quote` is */
  escape?: string | Buffer | undefined
  /** Whether a lone CR or LF in a field makes it quoted, whatever ends a record. @default true */
  quoteRecordDelimiter?: boolean | undefined
  /** Whether every non-empty field is quoted. @default false */
  quoted?: boolean | undefined
  /**
   * Whether empty fields are quoted; overrides `quotedString` for empty strings. Left out, only a field that would make a
   * blank line is. @default none
   */
  quotedEmpty?: boolean | undefined
  /** Whether every string is quoted. @default false */
  quotedString?: boolean | undefined
  /** Fields that contain one of these strings or match one of these patterns are quoted. @default none */
  quotedMatch?: Pattern | Pattern[] | false | undefined
}

const isPattern = (value: unknown) => isString(value) || value instanceof RegExp

export const quotingOptions = {
  quote: option(booleanOrText, '"'),
  escape: option(
    rule<string | Buffer>(
      (value) => isText(value) && String(value).length === 1,
      'a string or a Buffer of one character'
    )
  ),
  quoteRecordDelimiter: option(boolean, true),
  quoted: option(boolean, false),
  quotedEmpty: option(boolean),
  quotedString: option(boolean, false),
  quotedMatch: option(
    rule<Pattern | Pattern[] | false>(
      (value) => value === false || isPattern(value) || isArrayOf(value, isPattern),
      'a string, a RegExp or an array of them'
    )
  )
} satisfies OptionsOf<QuotingOptions>
