import createError from '@fastify/error'

/**
 * Every error that the plugin makes, by its `code`. Match on the code: texts may change.
 * docs/errors.md lists them for users, and a test keeps the two lists equal.
 */

export const CSV_EXPORT_INVALID_ROWS = createError(
  'CSV_EXPORT_INVALID_ROWS',
  '%s must be an iterable, an async iterable or a function that returns one, got %s',
  500,
  TypeError
)

export const CSV_EXPORT_INVALID_ROW = createError('CSV_EXPORT_INVALID_ROW', '%s: %s', 500, TypeError)

export const CSV_EXPORT_FORMULA = createError(
  'CSV_EXPORT_FORMULA',
  '%s: column %s: a spreadsheet would run this cell as a formula',
  500
)

export const CSV_EXPORT_INVALID_CHUNK = createError(
  'CSV_EXPORT_INVALID_CHUNK',
  'chunk %s is %s: yield strings or Buffers',
  500,
  TypeError
)

export const CSV_EXPORT_INVALID_OPTION = createError(
  'CSV_EXPORT_INVALID_OPTION',
  'option "%s" must be %s, got %s',
  500,
  TypeError
)

export const CSV_EXPORT_UNKNOWN_OPTION = createError(
  'CSV_EXPORT_UNKNOWN_OPTION',
  'unknown option "%s": did you mean "%s"?',
  500,
  TypeError
)

export const CSV_EXPORT_REPLY_SENT = createError(
  'CSV_EXPORT_REPLY_SENT',
  'reply.%s() was called after a reply had been sent: call one of them, once, per request',
  500
)

/** The reason of a source's `signal` when the client left before the end. */
export const CSV_EXPORT_CLIENT_GONE = createError(
  'CSV_EXPORT_CLIENT_GONE',
  'the client closed the connection before the end of the body',
  499
)

/** What a source throws that is no Error is wrapped in this one, as its `cause`. */
export const CSV_EXPORT_SOURCE_FAILED = createError('CSV_EXPORT_SOURCE_FAILED', 'the source failed: %s', 500)

export const CSV_EXPORT_BODY_DESTROYED = createError(
  'CSV_EXPORT_BODY_DESTROYED',
  'something else ended the reply before the body was sent: in an async handler, return or await reply.csv()',
  500
)
