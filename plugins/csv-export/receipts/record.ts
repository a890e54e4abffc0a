import { createHash, type Hash } from 'node:crypto'
import { attempt } from '../guard.ts'
import type { ExportStart, ExportStatus, Receipt } from './receipts.ts'

/** How far a running export has come: what `app.csvExports.running()` and the channels `:start` and `:progress` tell. */
export type ExportProgress = Pick<Receipt, 'id' | 'requestId' | 'report' | 'startedAt' | 'rows' | 'bytes'>

/** What an encoder counts. */
type Counts = { readonly count: number } & Readonly<
  Pick<Receipt, 'escapedCells' | 'columnsWithoutValue' | 'keysWithoutColumn'>
>

export interface RecordOptions extends Pick<Receipt, 'id' | 'requestId' | 'report'> {
  /** Whether the body's SHA-256 is wanted. */
  digest: boolean
  /** Whether that of the bytes as they are sent is wanted too, as a coding may make them others. */
  sentDigest?: boolean
}

/** All that is told of one export: counted while it runs, a receipt once it has ended. */
export class ExportRecord {
  bytes = 0
  contentCoding: string | null = null
  readonly #options: RecordOptions
  readonly #counts: Counts
  readonly #hash: Hash | undefined
  readonly #sentHash: Hash | undefined
  /** On the clock of `performance.now()`. */
  readonly #startedAt = performance.now()
  #firstByteAt: number | undefined
  #sentBytes = 0

  constructor(options: RecordOptions, counts: Counts) {
    this.#options = options
    this.#counts = counts
    if (options.digest) this.#hash = createHash('sha256')
    if (options.sentDigest) this.#sentHash = createHash('sha256')
  }

  get rows(): number {
    return this.#counts.count
  }

  /** Bytes of the body, before any coding. */
  addMade(chunk: Uint8Array): void {
    this.bytes += chunk.length
    this.#hash?.update(chunk)
  }

  addSent(chunk: Uint8Array): void {
    this.#firstByteAt ??= performance.now()
    this.#sentBytes += chunk.length
    this.#sentHash?.update(chunk)
  }

  get sentBytes(): number {
    return this.#sentBytes
  }

  /** SHA-256 of what has been sent, in base64. */
  get sentDigest(): string | undefined {
    return digestOf(this.#sentHash ?? this.#hash, 'base64')
  }

  readonly progress = (): ExportProgress => {
    const { id, requestId, report } = this.#options
    const startedAt = new Date(performance.timeOrigin + this.#startedAt).toISOString()
    return { id, requestId, report, startedAt, rows: this.rows, bytes: this.bytes }
  }

  get start(): ExportStart {
    const { id, report, startedAt } = this.progress()
    return { id, report, startedAt }
  }

  /** @param reason why it ended; none if it is complete */
  receipt(reason: Error | undefined): Receipt {
    const isComplete = reason === undefined
    return {
      ...this.progress(),
      contentCoding: this.contentCoding,
      sentBytes: this.#sentBytes,
      escapedCells: this.#counts.escapedCells,
      columnsWithoutValue: isComplete ? this.#counts.columnsWithoutValue : null,
      keysWithoutColumn: isComplete ? this.#counts.keysWithoutColumn : null,
      status: statusOf(reason),
      firstByteAfter: this.#firstByteAt === undefined ? null : this.#sinceStart(this.#firstByteAt),
      duration: this.#sinceStart(performance.now()),
      errorCode: errorCodeOf(reason),
      sha256: digestOf(this.#hash, 'hex') ?? null
    }
  }

  #sinceStart(at: number): number {
    return Math.round((at - this.#startedAt) * 1000) / 1000
  }
}

/** A copy's, as a hash gives its digest only once. */
function digestOf(hash: Hash | undefined, encoding: 'hex' | 'base64'): string | undefined {
  return hash?.copy().digest(encoding)
}

const statuses: Record<string, ExportStatus> = {
  CSV_EXPORT_ABANDONED: 'abandoned',
  CSV_EXPORT_CLIENT_GONE: 'client_gone',
  CSV_EXPORT_CLIENT_STALLED: 'client_stalled',
  CSV_EXPORT_SOURCE_STALLED: 'source_stalled',
  CSV_EXPORT_MAX_DURATION: 'limit_reached',
  CSV_EXPORT_MAX_ROWS: 'limit_reached',
  CSV_EXPORT_MAX_BYTES: 'limit_reached',
  FST_ERR_HANDLER_TIMEOUT: 'limit_reached',
  CSV_EXPORT_SERVER_CLOSING: 'server_closing',
  CSV_EXPORT_SERVER_ENDED: 'server_ended'
}

/** The status of an export that ended for a reason, or for none. */
function statusOf(reason: Error | undefined): ExportStatus {
  if (reason === undefined) return 'complete'
  const code = read(reason, 'code')
  // Not `statuses[code]`: a source's own error may carry any code.
  return typeof code === 'string' && Object.hasOwn(statuses, code)
    ? (statuses[code] as ExportStatus)
    : 'source_failed'
}

/** What a receipt says of the error that ended an export. */
function errorCodeOf(reason: Error | undefined): string | null {
  if (reason === undefined) return null
  return attempt(() => String(read(reason, 'code') ?? read(reason, 'name') ?? 'Error')) ?? 'Error'
}

/** A getter may throw though it did not when the error was looked at before. */
function read(error: Error, key: 'code' | 'name'): unknown {
  return attempt(() => (error as { code?: unknown; name: unknown })[key])
}
