import { describe } from '../describe.ts'
import { CSV_EXPORT_INVALID_OPTION } from '../errors.ts'

/** The first names of a kind, and how many there are. */
export interface NameList {
  /** Of keys, 1,000 at most. */
  count: number
  /** 20 at most. */
  names: string[]
}

/** How an export ended. Every export ends in exactly one of these. */
export type ExportStatus =
  | 'complete'
  | 'source_failed'
  | 'client_gone'
  | 'client_stalled'
  | 'source_stalled'
  | 'limit_reached'
  | 'server_closing'
  | 'server_ended'
  | 'abandoned'

/** What can be said of an export once it has ended. Plain JSON. */
export interface Receipt {
  /** The `Export-Id` header of the reply. */
  id: string
  /** Fastify's id of the request; null for `toCsv()`, which has none. */
  requestId: string | null
  /** The `report` option; the route's path, or `toCsv`, if it was left out. */
  report: string
  /** `complete` means that the last byte has been handed to the operating system, or by `toCsv()` to its reader. */
  status: ExportStatus
  /** Rows (of `reply.streamText`: chunks) taken from the source and encoded. */
  rows: number
  /** Bytes of the CSV (of `reply.streamText`: the text), before any content coding. */
  bytes: number
  /** The content coding that the plugin applied, null if none. */
  contentCoding: string | null
  /** Bytes given to the reply after that coding. */
  sentBytes: number
  /** Cells that `formulas: 'escape'` has put a `'` in front of. */
  escapedCells: number
  /**
   * Columns that no row had a value for, as where a name is misspelt; null is a value. Null if there is none, and unless
   * the export is complete and has rows.
   */
  columnsWithoutValue: NameList | null
  /**
   * Keys of rows that are not in the file, as the first row, which decides where no `columns` are given, did not have
   * them. Null as above.
   */
  keysWithoutColumn: NameList | null
  /** When the helper was called: ISO 8601, UTC. */
  startedAt: string
  /** Milliseconds until the first byte of the body was written; null if none was. */
  firstByteAfter: number | null
  /** Milliseconds until the export ended. */
  duration: number
  /** The `code` of the error that ended it, its name if it has no code; null if it is complete. */
  errorCode: string | null
  /** SHA-256 of the `bytes` (not of the `sentBytes`), in hexadecimal, where the `digest` option or the request's `TE: trailers` asked for it. */
  sha256: string | null
}

/** What can be said of an export when it begins. */
export type ExportStart = Pick<Receipt, 'id' | 'report' | 'startedAt'>

/** Where receipts are kept for those who ask later. `put` is called once for each export that ends. */
export interface ReceiptStore {
  /**
   * Called when an export begins, so that one whose process is killed is on record. The export does not wait for it, so
   * `put` may come first: it must not undo that. What it throws or rejects with is logged.
   */
  begin?(start: ExportStart): void | Promise<void>
  /** What it throws or rejects with is logged: the receipt itself is in the log too. */
  put(receipt: Receipt): void | Promise<void>
  get(id: string): Receipt | undefined | Promise<Receipt | undefined>
}

export interface MemoryReceiptsOptions {
  /** Most receipts kept: the oldest goes first. @default 10000 */
  max?: number | undefined
  /** How long one is kept, in milliseconds. @default 86400000 (a day) */
  maxAge?: number | undefined
}

/**
 * A receipt store in this process's memory, bounded by number and age.
 * @example
 * const receipts = new MemoryReceipts()
 * await app.register(csvExport, { receipts })
 * app.get('/exports/:id', (request) => receipts.get(request.params.id))
 */
export class MemoryReceipts implements ReceiptStore {
  readonly #max: number
  readonly #maxAge: number
  readonly #kept = new Map<string, { receipt: Receipt; expires: number }>()

  /** @throws CSV_EXPORT_INVALID_OPTION */
  constructor({ max = 10_000, maxAge = 86_400_000 }: MemoryReceiptsOptions = {}) {
    for (const [name, value] of Object.entries({ max, maxAge })) {
      if (typeof value === 'number' && value >= 0) continue
      throw new CSV_EXPORT_INVALID_OPTION(name, 'a number, 0 or more', describe(value))
    }
    this.#max = max
    this.#maxAge = maxAge
  }

  put(receipt: Receipt): void {
    const now = Date.now()
    this.#kept.set(receipt.id, { receipt, expires: now + this.#maxAge })
    // A Map keeps the order of insertion, so the oldest come first.
    for (const [id, { expires }] of this.#kept) {
      if (expires > now && this.#kept.size <= this.#max) break
      this.#kept.delete(id)
    }
  }

  get(id: string): Receipt | undefined {
    const kept = this.#kept.get(id)
    return kept !== undefined && kept.expires > Date.now() ? kept.receipt : undefined
  }
}
