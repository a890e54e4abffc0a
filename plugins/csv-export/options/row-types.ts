export type AnyRow = Record<string, any> | readonly unknown[]

/** A column's key in a row: a property, or the path of a nested one such as `address.city`. Arrays take any name. */
export type ColumnKey<Row> = [Row] extends [never]
  ? string
  : Row extends readonly unknown[]
    ? string
    : {
        [K in Extract<keyof Row, string>]: NonNullable<Row[K]> extends object
          ? K | `${K}.${string}` | `${K}[${string}`
          : K
      }[Extract<keyof Row, string>]

/** A column by its key, by its key and what is to be different, or by what its cells are made of. */
export type Column<Row> = ColumnKey<Row> | KeyColumn<Row> | ComputedColumn<Row>

interface ColumnOptions {
  /** What the header line calls it; by default its key. */
  header?: string | undefined
  /**
   * Whether its cells are empty for this viewer (the option `viewer`): asked once for each file, and no cast sees them. Its
   * header stays. By default none is.
   */
  mask?: ((viewer: any) => boolean) | undefined
}

interface KeyColumn<Row> extends ColumnOptions {
  key: ColumnKey<Row>
  value?: undefined
}

interface ComputedColumn<Row> extends ColumnOptions {
  /** Its name, in errors and receipts too. */
  key: string
  /** Gives its cell, as it would stand in a row: asked once for each row. */
  value: (row: Row) => unknown
}

/** CSV that is encoded already. */
export type Bytes = string | Uint8Array

/** What the compiler accepts at first, so that it is `RowsAdvice` that says what is wrong. */
export type AnyItem = AnyRow | Bytes | number | bigint | boolean | symbol | null

/** What `rows` gives, as far as its type tells: rows, arrays of them, CSV that is encoded already, or none of these. */
export type KindOf<Item> = [Item] extends [never]
  ? 'rows'
  : // Of a function's rows nothing is known until its parameter is.
    [AnyItem] extends [Item]
    ? 'rows'
    : // First: a type parameter that may be an object is then one to the compiler, too.
      Item extends ObjectRow
      ? 'rows'
      : Item extends Bytes
        ? 'encoded'
        : Item extends readonly unknown[]
          ? KindOfArray<Item[number]>
          : Item extends object
            ? 'rows'
            : 'wrong'

/** An array of nothing but objects or arrays is hardly a row: its cells would all be JSON. */
type KindOfArray<Cell> = unknown extends Cell
  ? 'rows'
  : [Cell] extends [never]
    ? 'rows'
    : [Extract<Cell, Date | Uint8Array>] extends [never]
      ? [Cell] extends [AnyRow]
        ? 'batches'
        : 'rows'
      : 'rows'

/** What is wrong with rows of each kind, in one line: of their iterators the compiler would say many. */
export interface RowsAdvice {
  rows: never
  batches: never
  encoded: never
  wrong: 'each row has to be an object or an array'
}

/** As `RowsAdvice`, of rows that come without options. */
export interface LoneRowsAdvice {
  rows: never
  batches: 'arrays of rows need the option { batches: true }'
  encoded: 'rows of encoded CSV need the option { encoded: true }'
  wrong: RowsAdvice['wrong']
}

/** The input where there is no advice, else nothing but the advice. */
export type Advised<Input, Advice> =
  // Not a conditional type, to which the compiler assigns nothing that has a type parameter.
  (Input & { input: unknown }[[Advice] extends [never] ? 'input' : never]) | Advice

/** Not an array, a string or a Buffer. */
interface ObjectRow {
  [key: string]: any
  [Symbol.iterator]?: never
}

/** The rows that are in an array of them. */
export type RowOf<Batch> = Batch extends readonly unknown[] ? Batch[number] : never
