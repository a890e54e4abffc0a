import { defined, refusal } from './option.ts'
import type { CsvOptions } from './options.ts'
import { checkSeparators, separatorsOf } from './separators.ts'
import type { StreamOptions } from './stream.ts'

/** Excel takes UTF-8 for another encoding without a byte order mark, and runs formulas. */
const excelPreset = { bom: true, recordDelimiter: '\r\n', formulas: 'escape' } satisfies CsvOptions

/**
 * What holds for one reply: the defaults given at registration overruled by the options of a call, with what `excel`
 * stands for filled in. Whatever is given beside it wins, and a call's `excel: false` takes a default's back.
 * Options of text are there with `encoded: true` too; nothing but `formulas` is then asked for.
 */
export function settle<Defaults extends CsvOptions, Options extends StreamOptions & { excel?: unknown }>(
  defaults: Defaults,
  options: Options
): Defaults & CsvOptions & Options {
  const given = defined(options)
  return {
    ...(defaults.excel && given.excel === undefined ? excelPreset : undefined),
    ...defaults,
    ...(given.excel ? excelPreset : undefined),
    ...given
  } as Defaults & CsvOptions & Options
}

/** Throws CSV_EXPORT_INVALID_OPTION for settings each of which is right by itself, but not all together. */
export function checkSettings(settings: CsvOptions): void {
  const { encoded, formulas = 'keep' } = settings
  if (!encoded) checkSeparators(settings)
  if (!encoded) checkEndMark(settings)
  if (!encoded || formulas === 'keep') return
  // Registered to guard every file, it must not be lost for one without a word.
  const expected = `'keep' with "encoded: true", as the rows are sent as they are`
  throw refusal('formulas', expected, formulas)
}

/** Without a quote, it would be found out at the end of every export. */
function checkEndMark(settings: CsvOptions): void {
  const { endMark = '' } = settings
  const { quote, delimiter, recordDelimiter } = separatorsOf(settings)
  if (quote !== '' || ![delimiter, recordDelimiter, '\n', '\r'].some((text) => endMark.includes(text))) return
  throw refusal('endMark', 'without a separator where there is no "quote"', endMark)
}
