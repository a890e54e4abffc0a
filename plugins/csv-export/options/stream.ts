import { boolean, count, milliseconds, type OptionsOf, option, string } from './option.ts'

/** Options of every helper. Times are in milliseconds; where it says so, 0 is no limit. */
export interface StreamOptions {
  /** What a receipt calls this export, such as '/users/:id/orders.csv'; `toCsv` in `toCsv()`. @default the route's path */
  report?: string | undefined
  /** Whether the receipt has the body's SHA-256. @default false */
  digest?: boolean | undefined
  /**
   * Longest wait for the next row, in milliseconds; 0 is no limit. After it: `source_stalled`,
   * CSV_EXPORT_SOURCE_STALLED. @default 300000
   */
  sourceTimeout?: number | undefined
  /**
   * Longest time of the whole export, in milliseconds; 0 is no limit. After it: `limit_reached`,
   * CSV_EXPORT_MAX_DURATION. @default 0
   */
  maxDuration?: number | undefined
  /** Most bytes of the body; 0 is no limit. Over it: `limit_reached`, CSV_EXPORT_MAX_BYTES. @default 0 */
  maxBytes?: number | undefined
}

export const streamOptions = {
  report: option(string),
  digest: option(boolean, false),
  sourceTimeout: option(milliseconds, 300_000),
  maxDuration: option(milliseconds, 0),
  maxBytes: option(count, 0)
} satisfies OptionsOf<StreamOptions>
