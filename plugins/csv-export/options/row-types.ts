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

/** A column by its key, or by its key and the name that the header gives it. */
export type Column<Row> = ColumnKey<Row> | { key: ColumnKey<Row>; header?: string | undefined }
