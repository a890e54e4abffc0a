import { propertiesOf, type RowSchema, type SchemaKey } from './row-schema.ts'

/** A column that a schema describes. */
export interface SchemaColumn<Key> {
  key: Key
  /** The property's `title`. */
  header?: string
}

/**
 * The columns that a row schema describes, for the option `columns`: one for each property, in order, its header its
 * `title`. The properties of a nested object are columns with a path, such as `address.city`.
 *
 * Rows with other keys do not compile. Types of values are not compared: what JSON Schema calls a string is often a Date
 * in a row.
 *
 * @param schema JSON Schema of an object (TypeBox is that), or a schema that tells its own, as zod's do from 4.2 on
 * @throws CSV_EXPORT_INVALID_OPTION naming the property that can be no column: a `$ref` to another document, a union or
 * `allOf` of objects, an object that contains itself
 * @example
 * const Order = Type.Object({ id: Type.Integer({ title: 'No.' }), total: Type.Number() })
 * reply.csv(orders(), { columns: columnsOf(Order) })
 */
export function columnsOf<const Schema extends RowSchema>(schema: Schema): SchemaColumn<SchemaKey<Schema>>[] {
  return propertiesOf(schema).map(({ key, schema: { title } }) => ({
    key: key as SchemaKey<Schema>,
    ...(typeof title === 'string' ? { header: title } : {})
  }))
}
