import type { Options as StringifyOptions } from 'csv-stringify'
import {
  boolean,
  booleanOrText,
  fullString,
  func,
  isArrayOf,
  isPlainObject,
  isString,
  isText,
  type OptionsOf,
  oneOf,
  option,
  rule
} from './option.ts'
import type { Column } from './row-types.ts'

type Casts = NonNullable<StringifyOptions['cast']>

/**
 * How rows become text; nothing of it can be asked for where they are encoded already.
 * Those of csv-stringify stand under their camelCase names and mean what they mean there, but for
 * the tables of docs/csv-format.md: https://csv.js.org/stringify/options/
 */
export interface TextOptions<Row = any> {
  /**
   * Text that begins one last record, which ends with the number of rows: for clients that cannot see a broken
   * connection. @default none
   */
  endMark?: string | undefined
  /**
   * The columns, in order, one or more: keys, or objects of `key`, `header`, `value` (a cell made of the row) and `mask` (empty
   * for some viewers). @default the source's names, or the keys of the first row
   * @example ['id', { key: 'name', header: 'Full name' }, { key: 'total', value: (row) => row.price * row.count }]
   */
  columns?: readonly Column<Row>[] | undefined
  /** Text before the header line that makes it a comment; true is `#`. Fields that contain it are quoted. @default false */
  headerAsComment?: boolean | string | Buffer | undefined
  /** Whether a byte order mark comes first, which Excel needs to read UTF-8. @default false */
  bom?: boolean | undefined
  /** What stands between two fields. Separators that overlap are refused: docs/csv-format.md. @default ',' */
  delimiter?: string | Buffer | undefined
  /** What ends a record: a string, or `unix`, `mac`, `windows`, `ascii`, `unicode`. @default '\n' */
  recordDelimiter?: string | Buffer | undefined
  /** Whether the last record is ended too. @default true */
  eof?: boolean | undefined
  /**
   * What happens to text, in a cell or in the header, that a spreadsheet would run as a formula: it is written as it is
   * (`keep`), gets a `'` in front (`escape`) or fails the export with CSV_EXPORT_FORMULA (`reject`). Numbers and phone
   * numbers are no formulas: docs/csv-format.md. @default 'keep' @example 'escape'
   */
  formulas?: 'keep' | 'escape' | 'reject' | undefined
  /**
   * Stands for `bom: true`, `recordDelimiter: '\r\n'` and `formulas: 'escape'`; what is given beside it wins. Fields with a
   * comma, a semicolon, a tab or a `|` are quoted, whatever the delimiter is.
   * @default false @example { excel: true, delimiter: ';' }
   */
  excel?: boolean | undefined
  /**
   * A switch for doubt about plain rows. `auto`: a shorter way of ours writes them wherever it writes the same as
   * csv-stringify; `csv-stringify`: that writes every row. @default 'auto'
   */
  encoder?: 'auto' | 'csv-stringify' | undefined
  /** Functions that turn a value of a type into text. @default see docs/csv-format.md */
  cast?: Casts | undefined
}

/** The types of values, as csv-stringify tells them apart. */
export const castTypes = [
  'string',
  'number',
  'bigint',
  'boolean',
  'date',
  'object',
  'null',
  'undefined'
] as const

const separator = rule<string | Buffer>(
  (value) => isText(value) && value.length > 0,
  'a string or a Buffer that is not empty'
)

export const textOptions = {
  endMark: option(fullString),
  columns: option(
    rule<readonly Column<any>[]>(
      (value) => isArrayOf(value, isColumn) && (value as unknown[]).length > 0,
      "a non-empty array of names or of { key, header, value, mask } objects, such as ['id', { key: 'name', header: 'Name' }]"
    )
  ),
  headerAsComment: option(booleanOrText, false),
  bom: option(boolean, false),
  delimiter: option(separator, ','),
  recordDelimiter: option(separator, '\n'),
  eof: option(boolean, true),
  formulas: option(oneOf('keep', 'escape', 'reject'), 'keep'),
  excel: option(boolean, false),
  encoder: option(oneOf('auto', 'csv-stringify'), 'auto'),
  cast: option(
    rule<Casts>(
      (value) =>
        isPlainObject(value) &&
        Object.entries(value).every(
          ([type, cast]) =>
            castTypes.includes(type as keyof Casts) && (cast === undefined || typeof cast === 'function')
        ),
      `an object of functions named ${castTypes.join(', ')}`
    )
  )
} satisfies OptionsOf<TextOptions>

const columnOptions: Record<string, (value: unknown) => boolean> = {
  key: fullString.accepts,
  header: isString,
  value: func.accepts,
  mask: func.accepts
}

function isColumn(column: unknown): boolean {
  if (isString(column)) return true
  return (
    isPlainObject(column) &&
    column.key !== undefined &&
    Object.entries(column).every(
      ([name, value]) =>
        Object.hasOwn(columnOptions, name) && (value === undefined || columnOptions[name]?.(value))
    )
  )
}
