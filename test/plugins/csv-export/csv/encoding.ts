import { CsvEncoder } from '../../../../plugins/csv-export/csv/encoder.ts'
import type { CsvOptions } from '../../../../plugins/csv-export/options/options.ts'

/** The file of some rows. */
export function encode(rows: Iterable<unknown>, settings: CsvOptions = {}): string {
  const encoder = new CsvEncoder(settings)
  let text = ''
  for (const row of rows) text += encoder.encode(row)
  return text + encoder.end()
}

/** Both ways that a row can take; the first row is csv-stringify's in each, so that a test gives some twice. */
export const bothWays = ['auto', 'csv-stringify'] as const
