import { CsvEncoder } from '../../../../plugins/csv-export/csv/encoder.ts'
import { defined } from '../../../../plugins/csv-export/options/option.ts'
import {
  type CsvOptions,
  csvDefaults,
  type FileSettings
} from '../../../../plugins/csv-export/options/options.ts'

export function withDefaults(options: CsvOptions): FileSettings {
  return { ...csvDefaults, ...defined(options) } as FileSettings
}

export function encoderOf(options: CsvOptions = {}): CsvEncoder {
  return new CsvEncoder(withDefaults(options))
}

/** The file of some rows. */
export function encode(rows: Iterable<unknown>, options: CsvOptions = {}): string {
  const encoder = encoderOf(options)
  let text = ''
  for (const row of rows) text += encoder.encode(row)
  return text + encoder.end()
}

/** Both ways that a row can take; the first row is csv-stringify's in each, so that a test gives some twice. */
export const bothWays = ['auto', 'csv-stringify'] as const
