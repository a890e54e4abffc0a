import { attempt } from '../csv-export/guard.ts'

/** Of PostgreSQL: no connection, no resources, shut down by an operator or a crash, waited for too long, to be tried again. */
const transientClasses = /^(08|53|57P0|40001|40P01|25006|25P03|58)/

/** Of the network, and of what is in between; a file that is gone while its run is still to be made. */
const networkCodes =
  /^(E(CONN|PIPE|HOSTUNREACH|NETUNREACH|TIMEDOUT|NOTFOUND|AI_AGAIN)|CSV_EXPORT_(DATABASE_UNAVAILABLE|CLAIM_LOST)$)/

const networkMessages =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error)/

/** Whether another attempt may do better: the infrastructure's fault, not the report's. Never throws. */
export function isTransient(thrown: unknown): boolean {
  const seen = new Set<unknown>()
  // An error may be its own cause.
  for (let error = thrown; isObject(error) && !seen.has(error); error = attempt(() => error.cause)) {
    seen.add(error)
    if (attempt(() => isTransientItself(error))) return true
  }
  return false
}

/** Whether the store of the files says so, through a client of AWS, and not the database. */
export function isOfBucket(error: object): boolean {
  return '$metadata' in error || '$fault' in error || isTimeoutOfBucket(error as Record<string, unknown>)
}

function isTransientItself(error: Record<string, unknown>): boolean {
  const { code, message, $fault, $retryable } = error
  if ($fault === 'server' || $retryable !== undefined || ($fault === 'client' && isBusyBucket(error)))
    return true
  if (isTimeoutOfBucket(error)) return true
  if (typeof code === 'string' && (transientClasses.test(code) || networkCodes.test(code))) return true
  return typeof message === 'string' && networkMessages.test(message)
}

/** As the clients of AWS say it: the bucket has waited for too long, or is asked for too much. */
function isBusyBucket({ name, $metadata }: Record<string, unknown>): boolean {
  return name === 'RequestTimeout' || (isObject($metadata) && $metadata.httpStatusCode === 429)
}

/** What those of the user's own `AbortSignal.timeout()` are called, too. */
function isTimeoutOfBucket({ name, message }: Record<string, unknown>): boolean {
  return name === 'TimeoutError' && String(message).startsWith('@smithy/node-http-handler')
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
