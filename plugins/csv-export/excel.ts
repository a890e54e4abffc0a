import type { CsvOptions } from './options.ts'

/** Excel takes UTF-8 for another encoding without a byte order mark, and runs formulas. */
const preset: CsvOptions = { bom: true, recordDelimiter: '\r\n', formulas: 'escape' }

/**
 * The defaults given at registration overruled by the options of a call, with what `excel` stands for filled in.
 * Whatever is given beside it wins, and a call's `excel: false` takes a default's back.
 */
export function withExcel<Defaults extends CsvOptions>(
  defaults: Defaults,
  options: CsvOptions
): Defaults & CsvOptions {
  return {
    ...(defaults.excel && options.excel === undefined ? preset : undefined),
    ...defaults,
    ...(options.excel ? preset : undefined),
    ...options
  }
}
