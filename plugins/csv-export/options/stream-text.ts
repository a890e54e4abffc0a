import { isPlainObject, isString, maxTimerDelay, type OptionsOf, option, rule, string } from './option.ts'

/** Text sent into a silent stream, so that nothing in between takes the connection for dead. */
export interface Heartbeat {
  /** Longest silence, in milliseconds. */
  every: number
  /** What is sent after it. */
  text: string
}

/** Options of `reply.streamText()` alone. */
export interface PlainTextOptions {
  /** The Content-Type. @default 'text/plain; charset=utf-8' */
  type?: string | undefined
  /** Text sent into a stream that has been silent for `every` milliseconds. @default none */
  heartbeat?: Heartbeat | undefined
}

export const plainTextOptions = {
  type: option(string, 'text/plain; charset=utf-8'),
  heartbeat: option(
    rule<Heartbeat>(
      (value) =>
        isPlainObject(value) &&
        isTimerDelay(value.every) &&
        isString(value.text) &&
        value.text !== '' &&
        Object.keys(value).every((name) => name === 'every' || name === 'text'),
      `{ every, text }: milliseconds between 1 and ${maxTimerDelay}, and a text that is not empty`
    )
  )
} satisfies OptionsOf<PlainTextOptions>

function isTimerDelay(value: unknown): boolean {
  return typeof value === 'number' && value >= 1 && value <= maxTimerDelay
}
