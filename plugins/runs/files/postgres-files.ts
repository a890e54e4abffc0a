import { buffer } from 'node:stream/consumers'
import pg from 'pg'
import { to as copyTo } from 'pg-copy-streams'
import { migrate, transaction } from '../database.ts'
import { CSV_EXPORT_CLAIM_LOST, CSV_EXPORT_FILE_INCOMPLETE } from '../errors.ts'
import type { FileStore, FileWriter } from './files.ts'

export interface PostgresFilesOptions {
  /** Writes files. A connection is borrowed for each statement. */
  pool: pg.Pool
  /** Reads them, so that no download waits for a run, nor a run for a download. @default pool */
  downloads?: pg.Pool
  /** @default 'csv_export' */
  schema?: string
}

/** Of this size a bytea is written at 0.64 of the speed of a plain file; of 64 KiB at 0.26. */
const chunkSize = 1_048_576
/** Longest that what has been appended is kept back, in milliseconds. */
const flushAfter = 1_000
/** What a slow download holds in memory. */
const readSize = 131_072

const migrations = [
  `
  CREATE TABLE files (
    id uuid PRIMARY KEY,
    -- Names the table that has its chunks.
    day text NOT NULL,
    size bigint NOT NULL DEFAULT 0,
    sealed_at timestamptz
  );
  CREATE INDEX files_of_day ON files (day);
  `
]

/**
 * Files as chunks of bytea, in a table a day: a deleted row gives no room back before it is vacuumed, a dropped table does.
 * A plain table each, and no partitions of one: to add or drop a partition would wait for whoever reads another.
 */
export class PostgresFiles implements FileStore {
  readonly #pool: pg.Pool
  readonly #downloads: pg.Pool
  readonly #name: string
  readonly #schema: string

  constructor({ pool, downloads = pool, schema = 'csv_export' }: PostgresFilesOptions) {
    this.#pool = pool
    this.#downloads = downloads
    this.#name = schema
    this.#schema = pg.escapeIdentifier(schema)
  }

  async prepare(): Promise<void> {
    await migrate(this.#pool, this.#schema, 'file_migrations', migrations)
  }

  async create(id: string): Promise<FileWriter> {
    const day = new Date().toISOString().slice(0, 10).replaceAll('-', '')
    const chunks = this.#chunksOf(day)
    await this.#pool.query(`
      CREATE TABLE IF NOT EXISTS ${chunks} (
        file_id uuid, start bigint, data bytea STORAGE EXTERNAL NOT NULL, PRIMARY KEY (file_id, start)
      )`)
    await this.#pool.query(`INSERT INTO ${this.#schema}.files (id, day) VALUES ($1, $2)`, [id, day])
    return new PostgresFileWriter(this.#pool, this.#schema, chunks, id)
  }

  async *read(id: string, from: number, to: number): AsyncGenerator<Buffer> {
    const { rows } = await this.#downloads.query(
      `SELECT day FROM ${this.#schema}.files WHERE id = $1 AND sealed_at IS NOT NULL`,
      [id]
    )
    if (rows.length === 0) throw new CSV_EXPORT_FILE_INCOMPLETE(id)
    const chunks = this.#chunksOf(rows[0].day)
    for (let at = from; at < to; ) {
      const data = await this.#copy(`
        SELECT substring(data FROM ${at} - start::integer + 1 FOR ${Math.min(readSize, to - at)})
        FROM ${chunks} WHERE file_id = ${pg.escapeLiteral(id)} AND start <= ${at} ORDER BY start DESC LIMIT 1`)
      if (data.length === 0) throw new CSV_EXPORT_FILE_INCOMPLETE(id)
      yield data
      at += data.length
    }
  }

  async discard(id: string): Promise<void> {
    await transaction(this.#pool, async (client) => {
      // First the row, which waits for an append that is under way and lets no other begin.
      const { rows } = await client.query(`DELETE FROM ${this.#schema}.files WHERE id = $1 RETURNING day`, [
        id
      ])
      if (rows.length > 0)
        await client.query(`DELETE FROM ${this.#chunksOf(rows[0].day)} WHERE file_id = $1`, [id])
    })
  }

  /** Drops the tables of days that have no file any more. */
  async sweep(): Promise<void> {
    // Not of yesterday: a file may have been given its day just before midnight.
    const { rows } = await this.#pool.query(
      `SELECT tablename FROM pg_tables
       WHERE schemaname = $1 AND tablename ~ '^chunks_\\d{8}$' AND tablename < 'chunks_' || to_char(now() - interval '2 days', 'YYYYMMDD')
       AND NOT EXISTS (SELECT FROM ${this.#schema}.files WHERE tablename = 'chunks_' || day)`,
      [this.#name]
    )
    for (const { tablename } of rows)
      await this.#pool.query(`DROP TABLE IF EXISTS ${this.#schema}.${tablename}`)
  }

  async *list(): AsyncGenerator<string> {
    const { rows } = await this.#pool.query(`SELECT id FROM ${this.#schema}.files`)
    for (const { id } of rows) yield id
  }

  #chunksOf(day: string): string {
    return `${this.#schema}.chunks_${day}`
  }

  /** One bytea as binary: as text it would be twice as long, and pg's own `binary` spoils it. */
  async #copy(query: string): Promise<Buffer> {
    const client = await this.#downloads.connect()
    try {
      const copied = await buffer(client.query(copyTo(`COPY (${query}) TO STDOUT (FORMAT binary)`)))
      client.release()
      return fieldOf(copied)
    } catch (error) {
      client.release(true)
      throw error
    }
  }
}

/** Signature, flags and extension are 19 bytes; then, of each row, the number of fields and the length of each. */
function fieldOf(copied: Buffer): Buffer {
  const header = 19
  if (copied.readInt16BE(header) !== 1) return Buffer.alloc(0)
  const length = copied.readInt32BE(header + 2)
  return copied.subarray(header + 6, header + 6 + length)
}

class PostgresFileWriter implements FileWriter {
  readonly #pool: pg.Pool
  readonly #insert: string
  readonly #seal: string
  readonly #id: string
  #pieces: Buffer[] = []
  #size = 0
  #start = 0
  #flushedAt = performance.now()

  constructor(pool: pg.Pool, schema: string, chunks: string, id: string) {
    this.#pool = pool
    this.#id = id
    // The row of the file is the claim: what has lost it writes nothing.
    const file = `SELECT id FROM ${schema}.files WHERE id = $1 AND sealed_at IS NULL`
    this.#insert = `
      WITH file AS (${file} FOR KEY SHARE)
      INSERT INTO ${chunks} (file_id, start, data) SELECT id, $2, $3 FROM file`
    this.#seal = `
      WITH file AS (${file} FOR UPDATE),
      last AS (INSERT INTO ${chunks} (file_id, start, data) SELECT id, $2, $3 FROM file WHERE length($3::bytea) > 0)
      UPDATE ${schema}.files SET sealed_at = now(), size = $2::bigint + length($3::bytea) FROM file WHERE files.id = file.id`
  }

  async append(chunk: Buffer): Promise<void> {
    this.#pieces.push(chunk)
    this.#size += chunk.length
    if (this.#size >= chunkSize || performance.now() - this.#flushedAt >= flushAfter)
      await this.#flush(this.#insert)
  }

  async seal(): Promise<void> {
    await this.#flush(this.#seal)
  }

  async #flush(statement: string): Promise<void> {
    const data = Buffer.concat(this.#pieces)
    const { rowCount } = await this.#pool.query(statement, [this.#id, this.#start, data])
    if (rowCount !== 1) throw new CSV_EXPORT_CLAIM_LOST()
    this.#start += data.length
    this.#pieces = []
    this.#size = 0
    this.#flushedAt = performance.now()
  }
}
