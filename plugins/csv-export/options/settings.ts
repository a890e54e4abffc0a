import { defined, refusal } from './option.ts'
import type { FileSettings } from './options.ts'
import type { RowsOptions } from './rows.ts'
import { checkSeparators, separatorsOf } from './separators.ts'
import type { StreamOptions } from './stream.ts'
import type { TextOptions } from './text.ts'

/** Excel takes UTF-8 for another encoding without a byte order mark, and runs formulas. */
const excelPreset = { bom: true, recordDelimiter: '\r\n', formulas: 'escape' } satisfies TextOptions

/**
 * What holds for one reply: our defaults, overruled by those given at registration, overruled by the options of a call, with
 * what `excel` stands for filled in. Whatever is given beside it wins, and a call's `excel: false` takes a registered one back.
 * Options of text are there with `encoded: true` too; nothing but `formulas` is then asked for.
 *
 * @param registered none of them undefined
 * @returns called for each reply
 */
export function settler<Defaults extends object, Registered extends Pick<TextOptions, 'excel'>>(
  defaults: Defaults,
  registered: Registered
) {
  const withoutExcel = { ...defaults, ...registered }
  const usual = registered.excel ? { ...defaults, ...excelPreset, ...registered } : withoutExcel
  return <Options extends StreamOptions & Pick<TextOptions, 'excel'>>(options: Options) => {
    const given = defined(options)
    const settings =
      given.excel === undefined
        ? { ...usual, ...given }
        : given.excel
          ? { ...withoutExcel, ...excelPreset, ...given }
          : { ...withoutExcel, ...given }
    return settings as Defaults & Registered & Options
  }
}

/** Throws CSV_EXPORT_INVALID_OPTION for settings each of which is right by itself, but not all together. */
export function checkSettings(settings: FileSettings & RowsOptions): void {
  if (settings.encoded) checkEncoded(settings)
  else {
    checkSeparators(settings)
    checkEndMark(settings)
  }
}

/** What is registered to guard every file must not be lost for one without a word. */
function checkEncoded({ formulas, columns = [] }: FileSettings): void {
  const because = 'with "encoded: true", as the rows are sent as they are'
  if (formulas !== 'keep') throw refusal('formulas', `'keep' ${because}`, formulas)
  const hasMask = columns.some((column) => typeof column !== 'string' && column.mask !== undefined)
  if (hasMask) throw refusal('columns', `without a "mask" ${because}`, columns)
}

/** Without a quote, it would be found out at the end of every export. */
function checkEndMark(settings: FileSettings): void {
  const { endMark = '' } = settings
  const { quote, delimiter, recordDelimiter } = separatorsOf(settings)
  if (quote !== '' || ![delimiter, recordDelimiter, '\n', '\r'].some((text) => endMark.includes(text))) return
  throw refusal('endMark', 'without a separator where there is no "quote"', endMark)
}
