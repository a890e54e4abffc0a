import { createHash, randomUUID } from 'node:crypto'
import pg from 'pg'
import { CSV_EXPORT_IDEMPOTENCY_KEY_USED, CSV_EXPORT_TOO_MANY_RUNS } from '../errors.ts'
import { columns, type Enqueue, type RunLimits, type RunRow, type Runs, toRow } from './runs.ts'
import { transaction } from './transaction.ts'

/** What is asked for. */
export interface RunRequest {
  owner: string
  report: string
  version: number
  parameters: unknown
  viewer: unknown
  idempotencyKey?: string | undefined
}

/** Who deletes it waits: a key may be about to name it. */
const staysThere = 'FOR KEY SHARE OF runs'

/** Takes what is asked for, and makes runs of it. */
export class RunRequests {
  readonly #pool: pg.Pool
  readonly #schema: string
  readonly #runs: Runs

  constructor(pool: pg.Pool, schema: string, runs: Runs) {
    this.#pool = pool
    this.#schema = pg.escapeIdentifier(schema)
    this.#runs = runs
  }

  /**
   * Makes a run, or gives the one that there is: of the same key, or an open one of the same owner that asks for the same.
   * One at a time of an owner, so that limits and keys hold.
   */
  async create(
    request: RunRequest,
    limits: RunLimits,
    enqueue: Enqueue
  ): Promise<{ run: RunRow; isNew: boolean }> {
    const { owner, idempotencyKey } = request
    const fingerprint = fingerprintOf(request)
    return await transaction(this.#pool, async (client) => {
      await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`csv_export ${owner}`])
      const before =
        (await this.#findByKey(client, request)) ?? (await this.#findOpen(client, owner, fingerprint))
      const run = before ?? (await this.#insert(client, request, fingerprint, limits, enqueue))
      if (idempotencyKey !== undefined) {
        await client.query(
          `INSERT INTO ${this.#schema}.idempotency_keys (owner, key, fingerprint, run_id) VALUES ($1, $2, $3, $4)
           ON CONFLICT DO NOTHING`,
          [owner, idempotencyKey, payloadOf(request), run.id]
        )
      }
      return { run, isNew: before === undefined }
    })
  }

  async #findByKey(client: pg.ClientBase, request: RunRequest): Promise<RunRow | undefined> {
    const { owner, idempotencyKey } = request
    if (idempotencyKey === undefined) return undefined
    const { rows } = await client.query(
      `SELECT ${columns}, key.fingerprint AS of_key FROM ${this.#schema}.runs
       JOIN (SELECT run_id, fingerprint FROM ${this.#schema}.idempotency_keys WHERE owner = $1 AND key = $2) AS key ON run_id = id
       ${staysThere}`,
      [owner, idempotencyKey]
    )
    const [found] = rows
    if (found === undefined) return undefined
    const { of_key, ...run } = found
    if (!payloadOf(request).equals(of_key)) throw new CSV_EXPORT_IDEMPOTENCY_KEY_USED(idempotencyKey)
    return toRow(run)
  }

  async #findOpen(client: pg.ClientBase, owner: string, fingerprint: Buffer): Promise<RunRow | undefined> {
    const { rows } = await client.query(
      `SELECT ${columns} FROM ${this.#schema}.runs
       WHERE owner = $1 AND fingerprint = $2 AND state IN ('queued', 'running') ${staysThere}`,
      [owner, fingerprint]
    )
    return rows.map(toRow)[0]
  }

  async #insert(
    client: pg.ClientBase,
    { owner, report, version, parameters, viewer }: RunRequest,
    fingerprint: Buffer,
    limits: RunLimits,
    enqueue: Enqueue
  ): Promise<RunRow> {
    await this.#checkRoom(client, owner, limits)
    const id = randomUUID()
    // now() is when the transaction began to wait for its turn: those of an owner would not be in their order.
    const { rows } = await client.query(
      `INSERT INTO ${this.#schema}.runs (id, owner, report, version, parameters, viewer, fingerprint, created_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp()) RETURNING ${columns}`,
      [id, owner, report, version, JSON.stringify(parameters), JSON.stringify(viewer), fingerprint]
    )
    await enqueue(client, id)
    return toRow(rows[0])
  }

  /** Whether another run may begin. */
  async #checkRoom(client: pg.ClientBase, owner: string, limits: RunLimits): Promise<void> {
    const { maxOpenPerOwner } = limits
    const { rows } = await client.query(
      `SELECT count(*)::float8 AS open FROM ${this.#schema}.runs WHERE owner = $1 AND state IN ('queued', 'running')`,
      [owner]
    )
    const { open } = rows[0]
    if (maxOpenPerOwner > 0 && open >= maxOpenPerOwner) throw new CSV_EXPORT_TOO_MANY_RUNS(open)
    await this.#runs.checkBytes(owner, limits, client)
  }
}

/** The same for what asks for the same file. */
function fingerprintOf({ report, version, parameters, viewer }: RunRequest): Buffer {
  return hashOf([report, version, parameters, ...(viewer === undefined ? [] : [viewer])])
}

/** What the client has sent: the same for the same key, whatever has become of the report or of its user's rights. */
function payloadOf({ report, parameters }: RunRequest): Buffer {
  return hashOf([report, parameters])
}

function hashOf(value: unknown): Buffer {
  return createHash('sha256')
    .update(JSON.stringify(sorted(value)))
    .digest()
}

/** The order of an object's keys means nothing. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).map(([key, inner]) => [key, sorted(inner)] as const)
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)))
}
