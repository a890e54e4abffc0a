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

export const CSV_EXPORT_SOURCE_USED = createError(
  'CSV_EXPORT_SOURCE_USED',
  '%s is a stream or iterator that has been read, has ended or goes to somebody else too, so that a part of it would be missing: ' +
    'give one that nobody else reads, or a function that opens one',
  500,
  TypeError
)

export const CSV_EXPORT_INVALID_BATCH = createError(
  'CSV_EXPORT_INVALID_BATCH',
  'batch %s is %s: with "batches: true", yield arrays of rows',
  500,
  TypeError
)

/** A page of `keysetPages()` that would lose rows, or give some twice. */
export const CSV_EXPORT_INVALID_PAGE = createError('CSV_EXPORT_INVALID_PAGE', '%s: %s', 500)

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
  'unknown option "%s"%s',
  500,
  TypeError
)

export const CSV_EXPORT_REPLY_SENT = createError(
  'CSV_EXPORT_REPLY_SENT',
  'reply.%s() was called after a reply had been sent: call one of them, once, per request',
  500
)

export const CSV_EXPORT_REPLACED = createError(
  'CSV_EXPORT_REPLACED',
  'a hook has sent something else while it still reads the body of reply.%s(): answer when it has all of it',
  500
)

export const CSV_EXPORT_RANGE = createError(
  'CSV_EXPORT_RANGE',
  'an export is made anew for each request, so there is no rest of one to ask for: ask without "Range: %s"',
  412
)

/** The reason of a source's `signal` when the client left before the end. */
export const CSV_EXPORT_CLIENT_GONE = createError(
  'CSV_EXPORT_CLIENT_GONE',
  'the client closed the connection before the end of the body',
  499
)

/** The reason of a source's `signal` when whoever reads `toCsv()` has had enough. */
export const CSV_EXPORT_ABANDONED = createError(
  'CSV_EXPORT_ABANDONED',
  'the reader of the chunks stopped before their end',
  499
)

/** The client took nothing for `stallTimeout` while there was something to send. */
export const CSV_EXPORT_CLIENT_STALLED = createError(
  'CSV_EXPORT_CLIENT_STALLED',
  'the client took nothing for %s ms: see "stallTimeout"',
  408
)

/** The source gave nothing for `sourceTimeout`. */
export const CSV_EXPORT_SOURCE_STALLED = createError(
  'CSV_EXPORT_SOURCE_STALLED',
  'the source gave nothing for %s ms: see "sourceTimeout"',
  504
)

export const CSV_EXPORT_MAX_DURATION = createError(
  'CSV_EXPORT_MAX_DURATION',
  'the export was not done after %s ms: see "maxDuration"',
  503
)

export const CSV_EXPORT_MAX_ROWS = createError(
  'CSV_EXPORT_MAX_ROWS',
  'the export has more than %s rows: ask for fewer, or see "maxRows"',
  422
)

export const CSV_EXPORT_MAX_BYTES = createError(
  'CSV_EXPORT_MAX_BYTES',
  'the export has more than %s bytes: ask for fewer rows, or see "maxBytes"',
  422
)

export const CSV_EXPORT_TOO_MANY = createError(
  'CSV_EXPORT_TOO_MANY',
  '%s exports are running, as many as "maxConcurrent" allows: try again later',
  503
)

export const CSV_EXPORT_TOO_MANY_FOR_KEY = createError(
  'CSV_EXPORT_TOO_MANY_FOR_KEY',
  '%s exports of yours are running, as many as are allowed at a time: try again later',
  429
)

export const CSV_EXPORT_TOO_MANY_PROBES = createError(
  'CSV_EXPORT_TOO_MANY_PROBES',
  '%s probes are running, as many as the route of "probe" allows: try again later',
  503
)

export const CSV_EXPORT_SERVER_CLOSING = createError(
  'CSV_EXPORT_SERVER_CLOSING',
  'the server is closing: try again later',
  503
)

/** Whoever runs the server has ended the export with `app.csvExports.end()`. */
export const CSV_EXPORT_SERVER_ENDED = createError(
  'CSV_EXPORT_SERVER_ENDED',
  'this export was ended by whoever runs the server',
  503
)

export const CSV_EXPORT_NOT_RETURNED = createError(
  'CSV_EXPORT_NOT_RETURNED',
  'the handler has sent another reply while its export runs: return what reply.%s() gives',
  500
)

/** What a source throws that is no Error is wrapped in this one, as its `cause`. Or its stream ended too early. */
export const CSV_EXPORT_SOURCE_FAILED = createError('CSV_EXPORT_SOURCE_FAILED', 'the source failed: %s', 500)

export const CSV_EXPORT_BODY_DESTROYED = createError(
  'CSV_EXPORT_BODY_DESTROYED',
  'something else ended or read the body before it was sent: in an async handler, return or await reply.csv(); a hook has to begin to read the payload before it hands it on, and to read all of it',
  500
)
