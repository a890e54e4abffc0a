import createError from '@fastify/error'

/** Every error that is made here, by its `code`. What PostgreSQL itself says keeps its own code, such as `22012`. */

export const CSV_EXPORT_INVALID_OPTION = createError<[string, string, unknown]>(
  'CSV_EXPORT_INVALID_OPTION',
  '"%s" must be %s, got %s',
  500,
  TypeError as ErrorConstructor
)

/** No connection could be had, or it was lost: `cause` has more. */
export const CSV_EXPORT_DATABASE_UNAVAILABLE = createError<[{ cause: unknown }]>(
  'CSV_EXPORT_DATABASE_UNAVAILABLE',
  'the database is not available: try again later',
  503
)

export const CSV_EXPORT_NOT_INSTALLED = createError<[string, string, string, { cause: unknown }]>(
  'CSV_EXPORT_NOT_INSTALLED',
  '%s needs the package %s: npm install %s',
  500
)

export const CSV_EXPORT_EQUAL_NAMES = createError<[string]>(
  'CSV_EXPORT_EQUAL_NAMES',
  'the statement gives more than one column named %s: give each a name of its own with AS',
  500
)

export const CSV_EXPORT_COPY_VALUES = createError(
  'CSV_EXPORT_COPY_VALUES',
  'COPY takes no values beside its text: write the statement with the tag sql, or use cursorRows()',
  500,
  TypeError
)
