import pg from 'pg'
import {
  CSV_EXPORT_CLAIM_LOST,
  CSV_EXPORT_TOO_MANY_BYTES,
  CSV_EXPORT_TOO_MANY_BYTES_OF_OWNER
} from '../errors.ts'
import { migrations } from './schema.ts'
import { migrate, transaction } from './transaction.ts'

export type RunState = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'expired'

/** A run as its table has it. */
export interface RunRow {
  id: string
  owner: string
  report: string
  version: number
  parameters: unknown
  /** Of none, nothing. */
  viewer: unknown
  state: RunState
  attempt: number
  file_id: string | null
  rows: number
  bytes: number
  sha256: string | null
  error_code: string | null
  error_message: string | null
  /** ISO 8601, as all times. */
  created_at: string
  started_at: string | null
  finished_at: string | null
  expires_at: string | null
}

/** How far a run is, without what was asked for, which may be large. */
export type WatchedRun = Pick<RunRow, 'id' | 'state' | 'file_id'>

export function isOpen({ state }: Pick<RunRow, 'state'>): boolean {
  return state === 'queued' || state === 'running'
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

const time = (name: string) =>
  `to_char(${name} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS ${name}`

/** A file's time is over when it is, not when a sweep sees it. */
const state = `CASE WHEN state = 'succeeded' AND expires_at <= now() THEN 'expired' ELSE state END AS state`

// JSON and times as text, as an application may have pg read them in its own way. Counts fit into a number.
export const columns = `id, owner, report, version, parameters::text, viewer::text, ${state}, attempt, file_id,
  rows::float8, bytes::float8, sha256, error_code, error_message,
  ${['created_at', 'started_at', 'finished_at', 'expires_at'].map(time).join(', ')}`

export function toRow({ parameters, viewer, ...row }: any): RunRow {
  return {
    ...row,
    parameters: JSON.parse(parameters),
    viewer: viewer === null ? undefined : JSON.parse(viewer)
  }
}

/** Bytes: with parameters of that size together, a page ends. */
const pageSize = 1_048_576

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

  /** Whether a file may begin, or go on: what is asked for a run says nothing of how much it will be. */
  async checkBytes(
    owner: string,
    { maxBytesPerOwner, maxBytesKept }: RunLimits,
    client: Pick<pg.Pool, 'query'> = this.#pool
  ): Promise<void> {
    const { rows } = await client.query(
      `SELECT coalesce(sum(bytes) FILTER (WHERE owner = $1), 0)::float8 AS bytes_of_owner, coalesce(sum(bytes), 0)::float8 AS bytes
       FROM ${this.#schema}.runs WHERE file_id IS NOT NULL`,
      [owner]
    )
    const { bytes_of_owner, bytes } = rows[0]
    if (maxBytesPerOwner > 0 && bytes_of_owner >= maxBytesPerOwner) {
      throw new CSV_EXPORT_TOO_MANY_BYTES_OF_OWNER(bytes_of_owner)
    }
    if (maxBytesKept > 0 && bytes >= maxBytesKept) throw new CSV_EXPORT_TOO_MANY_BYTES()
  }

  async get(id: string): Promise<RunRow | undefined> {
    const { rows } = await this.#pool.query(`SELECT ${columns} FROM ${this.#schema}.runs WHERE id = $1`, [id])
    return rows.map(toRow)[0]
  }

  async lookAt(ids: readonly string[]): Promise<WatchedRun[]> {
    const { rows } = await this.#pool.query(
      `SELECT id, ${state}, file_id FROM ${this.#schema}.runs WHERE id = ANY($1::uuid[])`,
      [ids]
    )
    return rows
  }

  /**
   * Those of an owner, the newest first: fewer than the limit where they would be too large together.
   * @param before the last one of the page before, which may be gone by now
   * @returns them, and whether there are more
   */
  async list(
    owner: string,
    limit: number,
    before?: { createdAt: number; id: string }
  ): Promise<{ page: RunRow[]; hasMore: boolean }> {
    const { rows } = await this.#pool.query(
      `SELECT ${columns}, has_more FROM (
         SELECT *, lead(id) OVER newest IS NOT NULL AS has_more,
           sum(octet_length(parameters::text) + coalesce(octet_length(viewer::text), 0))
             OVER (newest ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
         FROM ${this.#schema}.runs
         WHERE owner = $1 AND ($3::float8 IS NULL OR (created_at, id) < (to_timestamp($3 / 1000)::timestamptz(3), $4::uuid))
         WINDOW newest AS (ORDER BY created_at DESC, id DESC)
         ORDER BY created_at DESC, id DESC LIMIT $2
       ) AS runs
       WHERE coalesce(bytes_before, 0) < ${pageSize} ORDER BY runs.created_at DESC, id DESC`,
      [owner, limit, before?.createdAt ?? null, before?.id ?? null]
    )
    return { page: rows.map(({ has_more, ...row }) => toRow(row)), hasMore: rows.at(-1)?.has_more ?? false }
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
      return rows.length === 0 ? undefined : { run: toRow(rows[0]), lostFile: before.rows[0].file_id }
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
  async finish({ id, file_id }: RunRow, end: RunEnd, keepFor: number, enqueue: Enqueue): Promise<RunRow> {
    const result = end.state === 'succeeded' ? end : { rows: null, bytes: null, sha256: null }
    const error = end.state === 'failed' ? end : { code: null, message: null }
    return await transaction(this.#pool, async (client) => {
      const { rows } = await client.query(
        `UPDATE ${this.#schema}.runs SET state = $3, rows = coalesce($4, rows), bytes = coalesce($5, bytes), sha256 = $6,
           error_code = $7, error_message = $8, finished_at = now(),
           file_id = CASE WHEN $3 = 'succeeded' THEN file_id END, expires_at = now() + $9 * interval '1 millisecond'
         WHERE id = $1 AND file_id = $2 AND state = 'running' RETURNING ${columns}`,
        [id, file_id, end.state, result.rows, result.bytes, result.sha256, error.code, error.message, keepFor]
      )
      if (rows.length === 0) throw new CSV_EXPORT_CLAIM_LOST()
      await enqueue(client, id)
      return toRow(rows[0])
    })
  }

  /** Ends it whoever has it, whose file is an orphan then: by its owner, or as no attempt is left. @returns nothing if it was not open */
  async close(
    id: string,
    end: { state: 'cancelled' } | Extract<RunEnd, { state: 'failed' }>,
    keepFor: number,
    enqueue: Enqueue
  ): Promise<RunRow | undefined> {
    const error =
      end.state === 'failed' ? end : { code: 'CSV_EXPORT_RUN_CANCELLED', message: 'the run was cancelled' }
    return await transaction(this.#pool, async (client) => {
      const { rows } = await client.query(
        `UPDATE ${this.#schema}.runs SET state = $2, error_code = $3, error_message = $4, finished_at = now(),
           file_id = NULL, expires_at = now() + $5 * interval '1 millisecond'
         WHERE id = $1 AND state IN ('queued', 'running') RETURNING ${columns}`,
        [id, end.state, error.code, error.message, keepFor]
      )
      if (rows.length === 0) return undefined
      await enqueue(client, id)
      return toRow(rows[0])
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

  async delete(id: string): Promise<void> {
    await this.#pool.query(`DELETE FROM ${this.#schema}.runs WHERE id = $1`, [id])
  }

  /**
   * Has the file outlive its run while it is read.
   * @returns whether it is still there
   */
  async keepForReader(
    { id, file_id }: Pick<RunRow, 'id' | 'file_id'>,
    milliseconds: number
  ): Promise<boolean> {
    const { rowCount } = await this.#pool.query(
      `UPDATE ${this.#schema}.runs SET read_until = greatest(read_until, now() + $3 * interval '1 millisecond')
       WHERE id = $1 AND file_id = $2`,
      [id, file_id, milliseconds]
    )
    return rowCount === 1
  }

  /**
   * Those whose time is over expire. From now on, files that nobody reads any more are no longer their runs'.
   * @returns those
   */
  async expire(): Promise<string[]> {
    await this.#pool.query(
      `UPDATE ${this.#schema}.runs SET state = 'expired' WHERE state = 'succeeded' AND expires_at <= now()`
    )
    // In one statement, as a reader may come in between.
    const { rows } = await this.#pool.query(
      `WITH unread AS (
         SELECT id, file_id FROM ${this.#schema}.runs
         WHERE file_id IS NOT NULL AND state = 'expired' AND coalesce(read_until <= now(), true)
         FOR UPDATE SKIP LOCKED
       )
       UPDATE ${this.#schema}.runs SET file_id = NULL FROM unread WHERE runs.id = unread.id RETURNING unread.file_id`
    )
    return rows.map(({ file_id }) => file_id)
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
