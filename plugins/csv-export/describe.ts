/** A short, safe description of a value for an error message. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value)) return 'an array'
  if (isPromiseLike(value)) {
    // It is refused, so nobody awaits it any more: its rejection would end the process.
    Promise.resolve(value).catch(() => {})
    return 'a Promise (await it first)'
  }
  return `a value of type ${typeof value}`
}

export function isPromiseLike<T>(value: unknown): value is PromiseLike<T> {
  return typeof (value as PromiseLike<T> | null | undefined)?.then === 'function'
}
