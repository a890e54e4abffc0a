import { createHash, randomUUID } from 'node:crypto'
import pg from 'pg'
import { migrate, transaction } from './database.ts'
import {
  CSV_EXPORT_CLAIM_LOST,
  CSV_EXPORT_IDEMPOTENCY_KEY_USED,
  CSV_EXPORT_TOO_MANY_BYTES,
  CSV_EXPORT_TOO_MANY_BYTES_OF_OWNER,
  CSV_EXPORT_TOO_MANY_RUNS
} from './errors.ts'
import { migrations } from './schema.ts'

export type RunState = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'expired'

/** A run as its table has it. */
export interface RunRow {
  id: string
  owner: string
  report: string
  version: number
  parameters: unknown
  viewer: unknown
  state: RunState
  attempt: number
  file_id: string | null
  rows: number
  bytes: number
  sha256: string | null
  error_code: string | null
  error_message: string | null
  created_at: Date
  started_at: Date | null
  finished_at: Date | null
  expires_at: Date | null
}

/** What is asked for. */
export interface RunRequest {
  owner: string
  report: string
  version: number
  parameters: unknown
  viewer: unknown
  idempotencyKey?: string | undefined
}

/** 0 is no limit. */
export interface RunLimits {
  maxOpenPerOwner: number
  maxBytesPerOwner: number
  maxBytesKept: number
}

/** How an attempt ended. */
export type RunEnd =
  | { state: 'succeeded'; rows: number; bytes: number; sha256: string }
  | { state: 'failed'; code: string; message: string }

/** Sends a job in the transaction of a client. */
export type Enqueue = (client: pg.ClientBase, runId: string) => Promise<void>

// Counts come as strings otherwise; theirs fit into a number.
const columns = `id, owner, report, version, parameters, viewer, state, attempt, file_id, rows::float8, bytes::float8, sha256,
  error_code, error_message, created_at, started_at, finished_at, expires_at`

/** The table of runs: every change of a run's state is a statement here. */
export class Runs {
  readonly #pool: pg.Pool
  readonly #schema: string

  constructor(pool: pg.Pool, schema: string) {
    this.#pool = pool
    this.#schema = pg.escapeIdentifier(schema)
  }

  async prepare(): Promise<void> {
    await migrate(this.#pool, this.#schema, 'run_migrations', migrations)
  }

  /**
   * Makes a run, or gives the one that there is: of the same key, or an open one of the same owner that asks for the same.
   * One at a time of an owner, so that limits and keys hold.
   */
  async create(request: RunRequest, limits: RunLimits, enqueue: Enqueue): Promise<RunRow> {
    const { owner, idempotencyKey } = request
    const fingerprint = fingerprintOf(request)
    return await transaction(this.#pool, async (client) => {
      await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`csv_export ${owner}`])
      const run =
        (await this.#findByKey(client, request, fingerprint)) ??
        (await this.#findOpen(client, owner, fingerprint)) ??
        (await this.#insert(client, request, fingerprint, limits, enqueue))
      if (idempotencyKey !== undefined) {
        await client.query(
          `INSERT INTO ${this.#schema}.idempotency_keys (owner, key, fingerprint, run_id) VALUES ($1, $2, $3, $4)
           ON CONFLICT DO NOTHING`,
          [owner, idempotencyKey, fingerprint, run.id]
        )
      }
      return run
    })
  }

  async #findByKey(
    client: pg.ClientBase,
    { owner, idempotencyKey }: RunRequest,
    fingerprint: Buffer
  ): Promise<RunRow | undefined> {
    if (idempotencyKey === undefined) return undefined
    const { rows } = await client.query(
      `SELECT ${columns}, key.fingerprint AS of_key FROM ${this.#schema}.runs
       JOIN (SELECT run_id, fingerprint FROM ${this.#schema}.idempotency_keys WHERE owner = $1 AND key = $2) AS key ON run_id = id`,
      [owner, idempotencyKey]
    )
    if (rows.length > 0 && !fingerprint.equals(rows[0].of_key)) {
      throw new CSV_EXPORT_IDEMPOTENCY_KEY_USED(idempotencyKey)
    }
    return rows[0]
  }

  async #findOpen(client: pg.ClientBase, owner: string, fingerprint: Buffer): Promise<RunRow | undefined> {
    const { rows } = await client.query(
      `SELECT ${columns} FROM ${this.#schema}.runs
       WHERE owner = $1 AND fingerprint = $2 AND state IN ('queued', 'running')`,
      [owner, fingerprint]
    )
    return rows[0]
  }

  async #insert(
    client: pg.ClientBase,
    { owner, report, version, parameters, viewer }: RunRequest,
    fingerprint: Buffer,
    limits: RunLimits,
    enqueue: Enqueue
  ): Promise<RunRow> {
    await this.#checkLimits(client, owner, limits)
    const id = randomUUID()
    const { rows } = await client.query(
      `INSERT INTO ${this.#schema}.runs (id, owner, report, version, parameters, viewer, fingerprint)
       VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING ${columns}`,
      [id, owner, report, version, JSON.stringify(parameters), JSON.stringify(viewer ?? null), fingerprint]
    )
    await enqueue(client, id)
    return rows[0]
  }

  async #checkLimits(client: pg.ClientBase, owner: string, limits: RunLimits): Promise<void> {
    const { rows } = await client.query(
      `SELECT count(*) FILTER (WHERE owner = $1 AND state IN ('queued', 'running'))::float8 AS open,
         coalesce(sum(bytes) FILTER (WHERE owner = $1), 0)::float8 AS bytes_of_owner,
         coalesce(sum(bytes), 0)::float8 AS bytes
       FROM ${this.#schema}.runs WHERE file_id IS NOT NULL OR state IN ('queued', 'running')`,
      [owner]
    )
    const { open, bytes_of_owner, bytes } = rows[0]
    const { maxOpenPerOwner, maxBytesPerOwner, maxBytesKept } = limits
    if (maxOpenPerOwner > 0 && open >= maxOpenPerOwner) throw new CSV_EXPORT_TOO_MANY_RUNS(open)
    if (maxBytesPerOwner > 0 && bytes_of_owner >= maxBytesPerOwner) {
      throw new CSV_EXPORT_TOO_MANY_BYTES_OF_OWNER(bytes_of_owner)
    }
    if (maxBytesKept > 0 && bytes >= maxBytesKept) throw new CSV_EXPORT_TOO_MANY_BYTES()
  }

  async get(id: string): Promise<RunRow | undefined> {
    return (await this.getAll([id]))[0]
  }

  async getAll(ids: readonly string[]): Promise<RunRow[]> {
    const { rows } = await this.#pool.query(
      `SELECT ${columns} FROM ${this.#schema}.runs WHERE id = ANY($1::uuid[])`,
      [ids]
    )
    return rows
  }

  /** Those of an owner, the newest first. @param before the id of the last one of the page before */
  async list(owner: string, limit: number, before?: string): Promise<RunRow[]> {
    const { rows } = await this.#pool.query(
      `SELECT ${columns} FROM ${this.#schema}.runs WHERE owner = $1 AND ($3::uuid IS NULL OR (created_at, id) <
         (SELECT created_at, id FROM ${this.#schema}.runs WHERE id = $3 AND owner = $1))
       ORDER BY created_at DESC, id DESC LIMIT $2`,
      [owner, limit, before ?? null]
    )
    return rows
  }

  /**
   * Begins an attempt under a new file id, with which the one before loses its claim.
   * @returns the run, and the file of the attempt before; nothing if the run is no longer open
   */
  async claim(id: string, fileId: string): Promise<{ run: RunRow; lostFile: string | null } | undefined> {
    return await transaction(this.#pool, async (client) => {
      const before = await client.query(`SELECT file_id FROM ${this.#schema}.runs WHERE id = $1 FOR UPDATE`, [
        id
      ])
      const { rows } = await client.query(
        `UPDATE ${this.#schema}.runs SET state = 'running', attempt = attempt + 1, file_id = $2, rows = 0, bytes = 0,
           started_at = coalesce(started_at, now())
         WHERE id = $1 AND state IN ('queued', 'running') RETURNING ${columns}`,
        [id, fileId]
      )
      return rows.length === 0 ? undefined : { run: rows[0], lostFile: before.rows[0].file_id }
    })
  }

  /** Whether an attempt is still the one that counts. */
  async isClaimed({ id, file_id }: RunRow): Promise<boolean> {
    const run = await this.get(id)
    return run?.state === 'running' && run.file_id === file_id
  }

  /** @throws CSV_EXPORT_CLAIM_LOST */
  async setProgress({ id, file_id }: RunRow, rows: number, bytes: number): Promise<void> {
    const { rowCount } = await this.#pool.query(
      `UPDATE ${this.#schema}.runs SET rows = $3, bytes = $4 WHERE id = $1 AND file_id = $2 AND state = 'running'`,
      [id, file_id, rows, bytes]
    )
    if (rowCount === 0) throw new CSV_EXPORT_CLAIM_LOST()
  }

  /**
   * @param keepFor milliseconds
   * @throws CSV_EXPORT_CLAIM_LOST
   */
  async finish({ id, file_id }: RunRow, end: RunEnd, keepFor: number, enqueue: Enqueue): Promise<void> {
    const result = end.state === 'succeeded' ? end : { rows: null, bytes: null, sha256: null }
    const error = end.state === 'failed' ? end : { code: null, message: null }
    await transaction(this.#pool, async (client) => {
      const { rowCount } = await client.query(
        `UPDATE ${this.#schema}.runs SET state = $3, rows = coalesce($4, rows), bytes = coalesce($5, bytes), sha256 = $6,
           error_code = $7, error_message = $8, finished_at = now(), expires_at = now() + $9 * interval '1 millisecond'
         WHERE id = $1 AND file_id = $2 AND state = 'running'`,
        [id, file_id, end.state, result.rows, result.bytes, result.sha256, error.code, error.message, keepFor]
      )
      if (rowCount === 0) throw new CSV_EXPORT_CLAIM_LOST()
      await enqueue(client, id)
    })
  }

  /** Ends it whoever has it: by its owner, or as no attempt is left. @returns whether it was open */
  async close(
    id: string,
    end: { state: 'cancelled' } | Extract<RunEnd, { state: 'failed' }>,
    keepFor: number,
    enqueue: Enqueue
  ): Promise<boolean> {
    const error =
      end.state === 'failed' ? end : { code: 'CSV_EXPORT_RUN_CANCELLED', message: 'the run was cancelled' }
    return await transaction(this.#pool, async (client) => {
      const { rowCount } = await client.query(
        `UPDATE ${this.#schema}.runs SET state = $2, error_code = $3, error_message = $4, finished_at = now(),
           expires_at = now() + $5 * interval '1 millisecond'
         WHERE id = $1 AND state IN ('queued', 'running')`,
        [id, end.state, error.code, error.message, keepFor]
      )
      if (rowCount === 0) return false
      await enqueue(client, id)
      return true
    })
  }

  /** Gives an attempt back: another process begins anew. */
  async release({ id, file_id }: RunRow, enqueue: Enqueue): Promise<void> {
    await transaction(this.#pool, async (client) => {
      const { rowCount } = await client.query(
        `UPDATE ${this.#schema}.runs SET state = 'queued', file_id = NULL, rows = 0, bytes = 0
         WHERE id = $1 AND file_id = $2 AND state = 'running'`,
        [id, file_id]
      )
      if (rowCount === 1) await enqueue(client, id)
    })
  }

  /** From now on its file is no longer the run's. */
  async dropFile(id: string): Promise<void> {
    await this.#pool.query(`UPDATE ${this.#schema}.runs SET file_id = NULL WHERE id = $1`, [id])
  }

  async delete(id: string): Promise<void> {
    await this.#pool.query(`DELETE FROM ${this.#schema}.runs WHERE id = $1`, [id])
  }

  /** Has the file outlive its run while it is read. */
  async keepForReader(id: string, milliseconds: number): Promise<void> {
    await this.#pool.query(
      `UPDATE ${this.#schema}.runs SET read_until = greatest(read_until, now() + $2 * interval '1 millisecond') WHERE id = $1`,
      [id, milliseconds]
    )
  }

  /** Those whose time is over expire. @returns the files that nobody reads any more, by the run */
  async expire(): Promise<{ id: string; file_id: string }[]> {
    await this.#pool.query(
      `UPDATE ${this.#schema}.runs SET state = 'expired' WHERE state = 'succeeded' AND expires_at <= now()`
    )
    const { rows } = await this.#pool.query(
      `SELECT id, file_id FROM ${this.#schema}.runs
       WHERE file_id IS NOT NULL AND state IN ('failed', 'cancelled', 'expired') AND coalesce(read_until <= now(), true)`
    )
    return rows
  }

  /** Removes those that have no file and are older than that, in milliseconds after their end. */
  async forget(after: number): Promise<void> {
    await this.#pool.query(
      `DELETE FROM ${this.#schema}.runs WHERE file_id IS NULL AND finished_at < now() - $1 * interval '1 millisecond'`,
      [after]
    )
  }

  /** Of these files, the ones that belong to no run. */
  async unknownFiles(ids: readonly string[]): Promise<string[]> {
    const { rows } = await this.#pool.query(
      `SELECT file FROM unnest($1::uuid[]) AS file WHERE NOT EXISTS (SELECT FROM ${this.#schema}.runs WHERE file_id = file)`,
      [ids]
    )
    return rows.map(({ file }) => file)
  }
}

/** The same for what asks for the same file. */
function fingerprintOf({ report, version, parameters, viewer }: RunRequest): Buffer {
  return createHash('sha256')
    .update(JSON.stringify([report, version, sorted(parameters), sorted(viewer ?? null)]))
    .digest()
}

/** The order of an object's keys means nothing. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).map(([key, inner]) => [key, sorted(inner)] as const)
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)))
}
