import { randomUUID } from 'node:crypto'
import { CsvEncoder, type Encoder } from '../csv/encoder.ts'
import { EncodedRows } from '../csv/ready-text.ts'
import { CSV_EXPORT_ABANDONED, CSV_EXPORT_MAX_DURATION, CSV_EXPORT_SOURCE_USED } from '../errors.ts'
import { toError } from '../guard.ts'
import { checkToCsvOptions } from '../options/check.ts'
import { throughJson } from '../options/http.ts'
import { type ToCsvOptions, type ToCsvOptionsFor, toCsvDefaults } from '../options/options.ts'
import type { Advised, AnyItem, KindOf, LoneRowsAdvice, RowsAdvice } from '../options/row-types.ts'
import { checkSettings, settler } from '../options/settings.ts'
import type { Receipt } from '../receipts/receipts.ts'
import { type ExportProgress, ExportRecord } from '../receipts/record.ts'
import { Chunks } from './chunks.ts'
import { Deadline } from './deadline.ts'
import { Source, type SourceInput } from './source.ts'

/** The chunks of a CSV file, read once: a second loop over them throws CSV_EXPORT_SOURCE_USED. */
export interface CsvChunks extends AsyncIterableIterator<Buffer> {
  /** How it ended; resolves when it has, and never rejects. */
  readonly receipt: Promise<Receipt>
}

/**
 * Rows as Buffers of CSV, for a file, a mail, a queue or an object store: what `reply.csv()` sends, without Fastify or HTTP.
 * Nothing is read of the rows before a chunk is asked for. To leave the loop early ends the rows, too.
 *
 * @param rows as for `reply.csv()`
 * @param options see {@link ToCsvOptions}
 * @throws CSV_EXPORT_INVALID_ROWS, CSV_EXPORT_SOURCE_USED, CSV_EXPORT_INVALID_OPTION, CSV_EXPORT_UNKNOWN_OPTION; the loop
 * throws what the rows throw, and what `reply.csv()` breaks a download for
 * @example
 * const chunks = toCsv(users.all(), { columns: ['id', 'name'] })
 * await pipeline(Readable.from(chunks), createWriteStream('users.csv'))
 * console.log((await chunks.receipt).rows)
 */
export function toCsv<Item extends AnyItem>(
  rows: Advised<SourceInput<Item>, LoneRowsAdvice[KindOf<Item>]>
): CsvChunks
export function toCsv<Item extends AnyItem>(
  rows: Advised<SourceInput<Item>, RowsAdvice[KindOf<Item>]>,
  options: ToCsvOptionsFor<Item>[KindOf<Item>]
): CsvChunks
export function toCsv(rows: SourceInput<any>, options: ToCsvOptions<any> = {}): CsvChunks {
  return openCsv(rows, options, {})
}

export interface OpenCsv extends CsvChunks {
  progress(): ExportProgress
}

/** @param registered defaults of a server */
export function openCsv(
  rows: SourceInput<any>,
  options: ToCsvOptions<any>,
  registered: ToCsvOptions
): OpenCsv {
  checkToCsvOptions(options)
  const settings = settler(toCsvDefaults, registered)(options)
  checkSettings(settings)
  const { encoded, header, digest, maxDuration, report = 'toCsv' } = settings
  const viewer = throughJson(settings.viewer)
  const source = new Source('rows', rows, (error) => process.emitWarning(toError(error)))
  const encoder: Encoder<any> = encoded
    ? new EncodedRows(header)
    : new CsvEncoder(settings, () => source.columns, viewer)
  const record = new ExportRecord({ id: randomUUID(), requestId: null, report, digest }, encoder)
  const chunks = new Chunks(source, encoder, record, {
    ...settings,
    viewer,
    onFailed: (error) => end(toError(error))
  })
  const deadline = new Deadline(maxDuration, () => chunks.fail(new CSV_EXPORT_MAX_DURATION(maxDuration)))
  const { promise: receipt, resolve } = Promise.withResolvers<Receipt>()
  let isStarted = false
  let isIterated = false

  function end(reason?: Error): void {
    deadline.stop()
    resolve(record.receipt(reason))
  }

  return {
    receipt,
    progress: record.progress,
    async next() {
      if (!isStarted) deadline.start()
      isStarted = true
      const step = await chunks.next()
      if (step.done) end()
      else record.addSent(step.value)
      return step
    },
    async return() {
      const reason = new CSV_EXPORT_ABANDONED()
      chunks.abandon(reason)
      end(reason)
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]() {
      // A second reader would get the rest, or nothing, with a good end.
      if (isIterated) throw new CSV_EXPORT_SOURCE_USED('what toCsv() gives')
      isIterated = true
      return this
    }
  }
}
