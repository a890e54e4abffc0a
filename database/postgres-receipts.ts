import type { FastifyBaseLogger } from 'fastify'
import pg from 'pg'
import {
  type ExportStart,
  MemoryReceipts,
  type Receipt,
  type ReceiptStore
} from '../plugins/csv-export/index.ts'
import { DatabaseUnavailable } from './database-unavailable.ts'

export interface PostgresReceiptsOptions {
  /** Connection string of a prepared database. */
  url: string
  log: FastifyBaseLogger
  /** Days that a receipt is kept. @default 30 */
  maxAge?: number
  /** Most receipts in memory, also while the database is away: the oldest goes first. @default 10000 */
  maxInMemory?: number
}

/** Longest wait for a connection, and then for an answer, in milliseconds. */
const patience = 2_000
/** The pause before the first retry, and the longest one, in milliseconds. */
const firstPause = 100
const longestPause = 10_000
/** Most receipts written by one statement. */
const batchSize = 1_000
/** Least time between two deletions of what is too old, in milliseconds, and the most that one of them deletes. */
const expiryInterval = 60_000
const expiryBatch = 10_000

/**
 * Receipts in a PostgreSQL table, for all instances that share the database. While it is away they wait in memory;
 * this instance answers for its latest ones all the time, as a client asks why most of all when the database has died.
 */
export class PostgresReceipts implements ReceiptStore {
  readonly #pool: pg.Pool
  readonly #log: FastifyBaseLogger
  readonly #maxAge: number
  readonly #maxInMemory: number
  readonly #latest: MemoryReceipts
  readonly #pending = new Map<string, Receipt | ExportStart>()
  #writing: Promise<void> | undefined
  #retryTimer: NodeJS.Timeout | undefined
  #pause = 0
  #nextExpiry = 0
  #closed = false

  constructor({ url, log, maxAge = 30, maxInMemory = 10_000 }: PostgresReceiptsOptions) {
    this.#log = log
    this.#maxAge = maxAge
    this.#maxInMemory = maxInMemory
    this.#latest = new MemoryReceipts({ max: maxInMemory, maxAge: maxAge * 86_400_000 })
    this.#pool = new pg.Pool({
      connectionString: url,
      application_name: 'fastify-csv-export receipts',
      // Its own, as reports may hold all of the other pool's connections for as long as they last.
      max: 2,
      connectionTimeoutMillis: patience,
      query_timeout: patience
    })
    this.#pool.on('error', (error) => log.warn({ err: error }, 'an idle connection of the receipts was lost'))
  }

  /** Resolves when the start is in the database. While that is away, it is left out: the receipt follows in most cases. */
  async begin(start: ExportStart): Promise<void> {
    if (this.#retryTimer !== undefined) return
    this.#pending.set(start.id, start)
    await this.#write()
  }

  /** Resolves when the receipt is in the database, or waits in memory for the database to be back. */
  async put(receipt: Receipt): Promise<void> {
    this.#latest.put(receipt)
    this.#pending.set(receipt.id, receipt)
    if (this.#pending.size > this.#maxInMemory) this.#dropOldest()
    if (this.#retryTimer === undefined) await this.#write()
  }

  /** @throws DatabaseUnavailable */
  async get(id: string): Promise<Receipt | undefined> {
    const latest = this.#latest.get(id)
    return latest ?? (await this.#select<Receipt>(id, true))
  }

  /**
   * The start of an export that has no receipt.
   * @throws DatabaseUnavailable
   */
  async startOf(id: string): Promise<ExportStart | undefined> {
    const pending = this.#pending.get(id)
    return pending !== undefined && !('status' in pending) ? pending : await this.#select(id, false)
  }

  async #select<T>(id: string, hasEnded: boolean): Promise<T | undefined> {
    try {
      const { rows } = await this.#pool.query(selectReceipt, [id, this.#maxAge, hasEnded])
      return rows[0]?.receipt
    } catch (error) {
      throw new DatabaseUnavailable(error)
    }
  }

  /** Tries once more to write what is still pending. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retryTimer)
    if (this.#pending.size > 0) await this.#write()
    if (this.#pending.size > 0) {
      this.#log.error({ exports: [...this.#pending.values()] }, 'receipts were lost: the database is away')
    }
    await this.#pool.end()
  }

  #dropOldest(): void {
    const [oldest] = this.#pending.values()
    this.#pending.delete(oldest.id)
    this.#log.error({ export: oldest }, 'a receipt was lost: too many wait for the database')
  }

  /** One at a time: what comes in the meantime is written along with it. */
  #write(): Promise<void> {
    this.#writing ??= this.#writePending()
    return this.#writing
  }

  async #writePending(): Promise<void> {
    try {
      do {
        await this.#writeBatch()
        await this.#deleteExpired()
      } while (this.#pending.size > 0)
      if (this.#pause > 0) this.#log.info('receipts are written again')
      this.#pause = 0
    } catch (error) {
      this.#retryLater(error)
    } finally {
      // In the same turn as the last look at what is pending, so that no receipt comes in between.
      this.#writing = undefined
    }
  }

  async #writeBatch(): Promise<void> {
    const batch = [...this.#pending.values()].slice(0, batchSize)
    const texts = batch.map((receipt) => JSON.stringify(receipt))
    const haveEnded = batch.map((receipt) => 'status' in receipt)
    await this.#pool.query(insertReceipts, [batch.map(({ id }) => id), texts, haveEnded])
    for (const receipt of batch) {
      // An export may have ended while its start was written.
      if (this.#pending.get(receipt.id) === receipt) this.#pending.delete(receipt.id)
    }
  }

  #retryLater(error: unknown): void {
    if (this.#pause === 0) this.#log.warn({ err: error }, 'receipts wait in memory: the database is away')
    this.#pause = Math.min(2 * this.#pause || firstPause, longestPause)
    if (this.#closed) return
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = undefined
      this.#write()
    }, this.#pause)
  }

  async #deleteExpired(): Promise<void> {
    if (this.#closed || Date.now() < this.#nextExpiry) return
    this.#nextExpiry = Date.now() + expiryInterval
    try {
      await this.#pool.query(deleteExpired, [this.#maxAge, expiryBatch])
    } catch (error) {
      this.#log.warn({ err: error }, 'receipts that are too old could not be deleted')
    }
  }
}

// A receipt that counts as kept must outlive a crash, also where the database is set to be quicker than that. No start-up
// option says so, as poolers refuse those. A write whose answer was lost is done again.
const insertReceipts = `
  WITH setting AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true))
  INSERT INTO receipts (id, receipt, has_ended)
  SELECT id, receipt, has_ended
  FROM setting, unnest($1::uuid[], $2::json[], $3::boolean[]) AS told (id, receipt, has_ended)
  ON CONFLICT (id) DO UPDATE SET receipt = excluded.receipt, has_ended = true, kept_since = now()
  WHERE excluded.has_ended AND NOT receipts.has_ended
`

const selectReceipt = `
  SELECT receipt FROM receipts
  WHERE id = $1 AND kept_since > now() - $2 * interval '1 day' AND has_ended = $3
`

// Of several instances none waits for another one that deletes the same receipts.
const deleteExpired = `
  DELETE FROM receipts WHERE id IN (
    SELECT id FROM receipts WHERE kept_since <= now() - $1 * interval '1 day'
    ORDER BY kept_since LIMIT $2 FOR UPDATE SKIP LOCKED
  )
`
