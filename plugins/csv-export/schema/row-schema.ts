import { isPlainObject, refusal } from '../options/option.ts'
import type { ColumnKey } from '../options/row-types.ts'

/** JSON Schema of an object, as TypeBox makes it or as it is written by hand. */
export interface ObjectSchema {
  properties: object
}

/**
 * What tells its own JSON Schema, as the schemas of zod 4.2 and later and of ArkType do:
 * https://standardschema.dev/json-schema
 */
export interface StandardSchema<Row = unknown> {
  '~standard': {
    types?: { output: Row } | undefined
    jsonSchema: { output: (options: { target: any; libraryOptions?: any }) => object }
  }
}

/** What describes the rows of a file. */
export type RowSchema = ObjectSchema | StandardSchema

/** The keys of the columns that a schema describes; of a schema without types, any. */
export type SchemaKey<Schema> =
  Schema extends StandardSchema<infer Row>
    ? Known<ColumnKey<Row>>
    : Schema extends { properties: infer Properties }
      ? Known<{ [K in keyof Properties & string]: PathsFrom<K, Properties[K]> }[keyof Properties & string]>
      : never

type Known<Key> = string extends Key ? any : Key

type PathsFrom<Name extends string, Schema> = [Extract<Members<Schema>, ObjectSchema>] extends [never]
  ? Name
  : `${Name}.${string}`

type Members<Schema> =
  | Schema
  | (Schema extends { anyOf: readonly (infer Member)[] } | { oneOf: readonly (infer Member)[] }
      ? Member
      : never)

/** JSON Schema, as far as columns are concerned. */
export interface JsonSchema {
  [keyword: string]: unknown
}

/** A property that makes a column. */
export interface Property {
  /** Its key in a row: a name, or the path of a nested one. */
  key: string
  schema: JsonSchema
}

interface Place {
  root: JsonSchema
  /** Names of the properties above. */
  path: readonly string[]
  /** Their schemas: one that is met again contains itself. */
  above: readonly JsonSchema[]
}

/**
 * The properties of a row schema that are no objects with properties of their own, in order.
 * @throws CSV_EXPORT_INVALID_OPTION
 */
export function propertiesOf(schema: RowSchema): Property[] {
  const root = jsonSchemaOf(schema)
  const row = resolve(root, { root, path: [], above: [] })
  const properties = propertiesUnder(row, { root, path: [], above: [row] })
  if (properties.length > 0) return properties
  throw refusal('schema', 'the schema of an object with one property or more', schema)
}

function jsonSchemaOf(schema: RowSchema): JsonSchema {
  // ArkType's are functions.
  const standard = (schema as Partial<StandardSchema> | null | undefined)?.['~standard']
  if (standard === undefined && isPlainObject(schema)) return schema
  const { jsonSchema } = standard ?? {}
  if (jsonSchema !== undefined) {
    // What JSON Schema has no word for, such as a Date, is a column all the same. That is how zod is told.
    return jsonSchema.output({
      target: 'draft-2020-12',
      libraryOptions: { unrepresentable: 'any' }
    }) as JsonSchema
  }
  const expected = 'JSON Schema, or a schema that tells its own, as zod 4.2 or later does (zod/mini does not)'
  throw refusal('schema', expected, schema)
}

function propertiesUnder(schema: JsonSchema, place: Place): Property[] {
  const { properties } = schema
  if (!isPlainObject(properties)) return []
  return Object.entries(properties).flatMap(([name, property]) =>
    propertiesFrom(isPlainObject(property) ? property : {}, { ...place, path: [...place.path, name] })
  )
}

function propertiesFrom(property: JsonSchema, place: Place): Property[] {
  const { path, above } = place
  const schema = resolve(property, place)
  const nested = propertiesUnder(schema, { ...place, above: [...above, schema] })
  if (nested.length > 0) return nested
  if (path.length > 1 && !path.every((name) => /^[^.[\]]+$/.test(name))) {
    throw unusable(
      place,
      "without '.', '[' and ']' in its names, as its column's key is a path",
      path.join('.')
    )
  }
  // What stands beside a reference or a union says more than what it leads to.
  return [{ key: path.join('.'), schema: { ...schema, ...property } }]
}

/** What a schema stands for, by a reference in the same document, or beside null. */
function resolve(schema: JsonSchema, place: Place): JsonSchema {
  const { above, root } = place
  if (above.includes(schema)) throw unusable(place, 'a schema that does not contain itself', schema)
  const below = { ...place, above: [...above, schema] }
  const { $ref, anyOf, oneOf, allOf, properties } = schema
  if ($ref !== undefined) {
    const target = referred($ref, root)
    if (target !== undefined) return resolve(target, below)
    throw unusable(place, "without a $ref to another place than its own schema, such as '#/$defs/name'", $ref)
  }
  const members = [anyOf, oneOf].flatMap(schemasIn).filter(({ type }) => type !== 'null')
  const parts = schemasIn(allOf)
  const isOne = members.length === 1 && parts.length === 0 && properties === undefined
  if (isOne) return resolve(members[0] as JsonSchema, below)
  if ([...members, ...parts].some((part) => isPlainObject(resolve(part, below).properties))) {
    throw unusable(place, 'one object: several, as in anyOf and allOf, have no columns', schema)
  }
  return schema
}

/** The schemas in an array of them. */
export function schemasIn(members: unknown): JsonSchema[] {
  return Array.isArray(members) ? members.filter(isPlainObject) : []
}

function referred($ref: unknown, root: JsonSchema): JsonSchema | undefined {
  const [document, ...steps] = String($ref).split('/')
  const target = steps
    .map((step) => decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~'))
    .reduce<unknown>((at, step) => (isPlainObject(at) ? at[step] : undefined), root)
  return document === '#' && isPlainObject(target) ? target : undefined
}

function unusable({ path }: Place, expected: string, value: unknown): Error {
  const name = path.length === 0 ? 'schema' : `property ${JSON.stringify(path.join('.'))} of the schema`
  return refusal(name, expected, value)
}
