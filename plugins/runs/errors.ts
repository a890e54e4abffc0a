import createError from '@fastify/error'

/** Every error that is made here, by its `code`. docs/errors.md lists them for users, and a test keeps the two lists equal. */

/** What a validator drops silently, a misspelt filter, must not give an unfiltered report. */
export const CSV_EXPORT_UNKNOWN_PARAMETER = createError<[string, string]>(
  'CSV_EXPORT_UNKNOWN_PARAMETER',
  'unknown parameter "%s" (%s)',
  400
)

export const CSV_EXPORT_INFINITE_PARAMETER = createError<[string]>(
  'CSV_EXPORT_INFINITE_PARAMETER',
  'parameter "%s" must be a finite number',
  400
)

export const CSV_EXPORT_UNKNOWN_RUN = createError<[string]>(
  'CSV_EXPORT_UNKNOWN_RUN',
  'there is no run %s',
  404
)

export const CSV_EXPORT_RUN_OPEN = createError<[string, string]>(
  'CSV_EXPORT_RUN_OPEN',
  'run %s is %s: its file is not there yet',
  503
)

export const CSV_EXPORT_RUN_NOT_SUCCEEDED = createError<[string, string, string]>(
  'CSV_EXPORT_RUN_NOT_SUCCEEDED',
  'run %s is %s, so it has no file: %s',
  409
)

export const CSV_EXPORT_RUN_EXPIRED = createError<[string]>(
  'CSV_EXPORT_RUN_EXPIRED',
  'the file of run %s is no longer kept: make a new run',
  410
)

export const CSV_EXPORT_RUN_IS_OPEN = createError<[string]>(
  'CSV_EXPORT_RUN_IS_OPEN',
  'run %s is still open: cancel it first',
  409
)

export const CSV_EXPORT_IDEMPOTENCY_KEY_USED = createError<[string]>(
  'CSV_EXPORT_IDEMPOTENCY_KEY_USED',
  'Idempotency-Key "%s" belongs to a run with other parameters',
  422
)

export const CSV_EXPORT_INVALID_IDEMPOTENCY_KEY = createError(
  'CSV_EXPORT_INVALID_IDEMPOTENCY_KEY',
  'Idempotency-Key must be 1 to 255 characters',
  400
)

export const CSV_EXPORT_TOO_MANY_RUNS = createError<[number]>(
  'CSV_EXPORT_TOO_MANY_RUNS',
  'there are %s open runs already: wait for one of them to end',
  429
)

export const CSV_EXPORT_TOO_MANY_BYTES_OF_OWNER = createError<[number]>(
  'CSV_EXPORT_TOO_MANY_BYTES_OF_OWNER',
  'the files of your runs have %s bytes: delete some of them first',
  429
)

export const CSV_EXPORT_TOO_MANY_BYTES = createError(
  'CSV_EXPORT_TOO_MANY_BYTES',
  'there is no room for another file: try again later',
  507
)

export const CSV_EXPORT_RANGE_NOT_SATISFIABLE = createError<[number]>(
  'CSV_EXPORT_RANGE_NOT_SATISFIABLE',
  'the file has %s bytes: the range begins behind them',
  416
)

/** The run's owner has cancelled it: the reason of its source's `signal`. */
export const CSV_EXPORT_RUN_CANCELLED = createError('CSV_EXPORT_RUN_CANCELLED', 'the run was cancelled', 499)

/** Another attempt has begun, or the run has ended: what this one would still write counts no more. */
export const CSV_EXPORT_CLAIM_LOST = createError(
  'CSV_EXPORT_CLAIM_LOST',
  'another attempt of the run has begun, or the run has ended',
  500
)

/** This process stops: another one makes the run anew. */
export const CSV_EXPORT_WORKER_CLOSING = createError(
  'CSV_EXPORT_WORKER_CLOSING',
  'the worker is closing: the run is made anew by another one',
  503
)

export const CSV_EXPORT_REPORT_CHANGED = createError<[string, number, number]>(
  'CSV_EXPORT_REPORT_CHANGED',
  'report "%s" has changed from version %s to %s while the run waited: make a new run',
  409
)

/** A newer process, or another service, made the run; one that knows its report makes its file. */
export const CSV_EXPORT_UNKNOWN_REPORT = createError<[string, number]>(
  'CSV_EXPORT_UNKNOWN_REPORT',
  'this worker does not know version %2$s of report "%1$s"',
  503
)

/** Its processes died, or lost the database, more often than the queue tries. */
export const CSV_EXPORT_RUN_LOST = createError(
  'CSV_EXPORT_RUN_LOST',
  'every attempt of the run was lost: its processes died or lost the database',
  503
)

/** A bucket that is away, or asked for too much: `cause` has more. */
export const CSV_EXPORT_FILES_UNAVAILABLE = createError<[{ cause: unknown }]>(
  'CSV_EXPORT_FILES_UNAVAILABLE',
  'the store of the files is not available: try again later',
  503
)

/** The store has fewer bytes than the run, or none. */
export const CSV_EXPORT_FILE_INCOMPLETE = createError<[string]>(
  'CSV_EXPORT_FILE_INCOMPLETE',
  'file %s is not complete in its store',
  500
)
