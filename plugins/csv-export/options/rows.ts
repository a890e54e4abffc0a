import { boolean, count, type OptionsOf, option } from './option.ts'

/** Options of any CSV file, encoded by the plugin or by somebody else. */
export interface FileOptions {
  /**
   * A tuning knob: text is joined up to about this many bytes before it is sent, sooner when the source pauses.
   * @default 65536
   */
  chunkSize?: number | undefined
  /** Most rows; 0 is no limit. Over it: `limit_reached`, CSV_EXPORT_MAX_ROWS. @default 0 */
  maxRows?: number | undefined
  /** Whether a line of column names comes first. @default true */
  header?: boolean | undefined
}

export const fileOptions = {
  chunkSize: option(count, 65_536),
  maxRows: option(count, 0),
  header: option(boolean, true)
} satisfies OptionsOf<FileOptions>

/** What the rows of one call are; no defaults can be registered for it. */
export interface RowsOptions {
  /** Whether `rows` gives arrays of rows, as database drivers fetch them. @default false */
  batches?: boolean | undefined
  /**
   * Whether `rows` gives CSV that is encoded already, as strings or Buffers, such as a database's COPY: it is sent as it
   * is. `header` then says whether it begins with a header line. Options that would change the text are refused, those
   * given at registration do not apply; but a registered `formulas` other than 'keep' has to be taken back by the call.
   * @default false
   */
  encoded?: boolean | undefined
}

export const rowsOptions = {
  batches: option(boolean, false),
  encoded: option(boolean, false)
} satisfies OptionsOf<RowsOptions>
