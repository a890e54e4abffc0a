import { describe } from '../describe.ts'
import { CSV_EXPORT_INVALID_OPTION } from '../errors.ts'

/** Which values an option takes. */
export interface Rule<T> {
  accepts: (value: unknown) => value is T
  /** Goes on after 'must be'. */
  expected: string
}

/** What there is to an option besides its type and its docstring, next to which it stands. */
export interface Option<T, Default extends T | undefined = T | undefined> extends Rule<T> {
  /** undefined for none, or for one that other things decide. */
  default: Default
}

/** An option for each property of an interface: one that is missing, or of another type, does not compile. */
export type OptionsOf<T> = { readonly [Name in keyof T]-?: Option<Exclude<T[Name], undefined>> }

export type DefaultsOf<Options> = {
  [Name in keyof Options as Options[Name] extends Option<any, undefined>
    ? never
    : Name]: Options[Name] extends Option<infer T> ? T : never
}

export function option<T>(rule: Rule<T>): Option<T, undefined>
export function option<T>(rule: Rule<T>, byDefault: NoInfer<T>): Option<T, T>
export function option<T>(rule: Rule<T>, byDefault?: T): Option<T> {
  return { ...rule, default: byDefault }
}

export function rule<T>(accepts: (value: unknown) => boolean, expected: string): Rule<T> {
  return { accepts: accepts as Rule<T>['accepts'], expected }
}

export function oneOf<const T extends string>(...values: readonly T[]): Rule<T> {
  const quoted = values.map((value) => `'${value}'`)
  const expected = `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`
  return rule((value) => values.includes(value as T), expected)
}

/** What a Node timer can wait: above it, it would fire at once. */
export const maxTimerDelay = 2 ** 31 - 1

export const isString = (value: unknown): value is string => typeof value === 'string'
export const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean'
export const isText = (value: unknown): value is string | Buffer => isString(value) || Buffer.isBuffer(value)
export const isPlainObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Also of those that `every()` passes over: a comma too many makes one. */
export const isArrayOf = (value: unknown, test: (item: unknown) => boolean): boolean =>
  Array.isArray(value) && Array.from(value).every(test)

export const string = rule<string>(isString, 'a string')
export const fullString = rule<string>(
  (value) => isString(value) && value !== '',
  'a string that is not empty'
)
export const boolean = rule<boolean>(isBoolean, 'true or false')
export const booleanOrText = rule<boolean | string | Buffer>(
  (value) => isBoolean(value) || isText(value),
  'a boolean, a string or a Buffer'
)
export const count = rule<number>(
  (value) => Number.isSafeInteger(value) && (value as number) >= 0,
  'a whole number, 0 or more'
)
export const milliseconds = rule<number>(
  (value) => typeof value === 'number' && value >= 0 && value <= maxTimerDelay,
  `a number of milliseconds between 0 and ${maxTimerDelay}`
)
export const func = rule<(...args: any[]) => any>((value) => typeof value === 'function', 'a function')

/** The defaults of those that have one. */
export function defaultsOf<Options extends Record<string, Option<any>>>(
  options: Options
): DefaultsOf<Options> {
  const defaults = Object.entries(options).map(([name, { default: value }]) => [name, value])
  return defined(Object.fromEntries(defaults)) as DefaultsOf<Options>
}

/** Without the properties that are undefined: an option left undefined is an option not given. */
export function defined<T extends object>(options: T): { [Name in keyof T]?: Exclude<T[Name], undefined> } {
  const kept: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(options)) if (value !== undefined) kept[name] = value
  return kept as T
}

/** The error that refuses an option's value. */
export function refusal(name: string, expected: string, value: unknown): Error {
  return new CSV_EXPORT_INVALID_OPTION(name, expected, describe(value))
}
