import type { FastifyBaseLogger } from 'fastify'
import { CSV_EXPORT_SOURCE_FAILED } from './errors.ts'

/** Sources, casts, hooks and loggers are others' code and may throw anything, in places where nobody would catch it. */

/** A callback for Node: what it throws goes to `fail`, where it ends one export instead of the process. */
export function guarded<A extends unknown[]>(
  callback: (...args: A) => void,
  fail: (thrown: unknown) => void
): (...args: A) => void {
  return (...args) => {
    try {
      callback(...args)
    } catch (thrown) {
      fail(thrown)
    }
  }
}

/**
 * What was thrown if it is an Error that Fastify and a logger can use, else an Error that says as much of it. Never throws.
 * Of a frozen Error, say, it is a copy, as pino marks the errors it writes.
 */
export function toError(thrown: unknown): Error {
  if (attempt(() => isUsable(thrown))) return thrown as Error
  if (attempt(() => thrown instanceof Error)) return copyOf(thrown as Error)
  // A logger would call a function.
  const isCause = isObject(thrown) ? attempt(() => isReadable(thrown)) : typeof thrown !== 'function'
  return isCause
    ? new CSV_EXPORT_SOURCE_FAILED(textOf(thrown), { cause: thrown })
    : new CSV_EXPORT_SOURCE_FAILED(textOf(thrown))
}

/** The ends of exports that neither their source nor a limit has ended. */
const ends: unknown[] = [
  'CSV_EXPORT_ABANDONED',
  'CSV_EXPORT_CLIENT_GONE',
  'CSV_EXPORT_CLIENT_STALLED',
  'CSV_EXPORT_SERVER_CLOSING',
  'CSV_EXPORT_SERVER_ENDED'
]

/**
 * What somebody else's code has thrown while its export ran. The end of another export, as where both wait for one query, says
 * nothing of this one: nobody has left or ended it.
 */
export function ofThisExport(thrown: unknown): unknown {
  if (!isEndOfExport(thrown)) return thrown
  return new CSV_EXPORT_SOURCE_FAILED(`what it waited for ended with another export: ${textOf(thrown)}`, {
    cause: thrown
  })
}

/** Whether neither a source nor a limit has ended an export. */
export function isEndOfExport(reason: unknown): boolean {
  return ends.includes(attempt(() => (reason as { code?: unknown }).code))
}

/** The text of what was thrown; an Error's is its message. Never throws. */
export function textOf(thrown: unknown): string {
  const text = attempt(() => (thrown instanceof Error ? thrown.message : undefined))
  if (typeof text === 'string') return text
  return attempt(() => String(thrown)) ?? 'a value that cannot be made text'
}

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const

/** What every logger of Fastify has a method for. */
export type LogLevel = (typeof logLevels)[number]

/** Logs, whatever the logger's serializers make of the error. Never throws. */
export function logSafely(
  log: FastifyBaseLogger,
  level: LogLevel,
  { err, ...fields }: { err?: unknown; [field: string]: unknown },
  message: string
): void {
  const logged = attempt(() => {
    log[level]({ err, ...fields }, message)
    return true
  })
  if (!logged) attempt(() => log[level]({ ...fields, errorMessage: textOf(err) }, message))
}

/** What was read, or undefined if that throws. */
export function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

function isUsable(thrown: unknown): boolean {
  return thrown instanceof Error && isMarkable(thrown, new Set()) && isReadable(thrown)
}

/** pino marks the errors that it writes, and those in them. */
function isMarkable(value: unknown, seen: Set<unknown>): boolean {
  if (!isObject(value) || typeof value.message !== 'string' || seen.has(value)) return true
  seen.add(value)
  const { errors } = value as { errors?: unknown }
  const others = [...Object.values(value), ...(Array.isArray(errors) ? errors : [])]
  return Object.isExtensible(value) && others.every((other) => isMarkable(other, seen))
}

/** Whether Fastify and pino can read all that they read of an error. Throws what they would get. */
function isReadable(error: object): boolean {
  const read = error as Record<string, unknown>
  for (const key of Object.keys(error)) read[key]
  // Node does sums with a status: a BigInt or a Symbol throws there.
  for (const key of ['status', 'statusCode']) +(read[key] as number)
  if (read.headers !== undefined) Object.values(read.headers as object)
  // As Node does to see how they begin: a Symbol throws there.
  for (const key of ['code', 'name']) `${read[key]}`
  const seen = new Set<unknown>()
  for (let link: unknown = error; isObject(link) && !seen.has(link); link = link.cause) {
    seen.add(link)
    String(link.message)
    String(link.stack)
    // pino would call it.
    if (typeof link.cause === 'function') return false
  }
  return true
}

function copyOf(error: Error): Error {
  const copy = new Error(textOf(error))
  for (const key of ['name', 'code', 'status', 'statusCode', 'stack']) {
    const value = attempt(() => (error as unknown as Record<string, unknown>)[key])
    if (typeof value !== 'string' && typeof value !== 'number') continue
    Object.defineProperty(copy, key, {
      value,
      writable: true,
      configurable: true,
      enumerable: key !== 'name' && key !== 'stack'
    })
  }
  return copy
}

function isObject(value: unknown): value is { message?: unknown; stack?: unknown; cause?: unknown } {
  return typeof value === 'object' && value !== null
}
