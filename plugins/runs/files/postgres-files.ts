import { finished } from 'node:stream/promises'
import pg from 'pg'
import { borrow } from '../../pg/borrow.ts'
import { peer } from '../../pg/peers.ts'
import { CSV_EXPORT_CLAIM_LOST } from '../errors.ts'
import { lockTables, migrate, transaction } from '../table/transaction.ts'
import { BinaryFields } from './binary-fields.ts'
import type { FileStore, FileWriter } from './files.ts'
import { type FileSink, gather } from './gather.ts'
import { Pieces, type SealedFile } from './pieces.ts'

export interface PostgresFilesOptions {
  /** Writes files. A connection is borrowed for each statement. */
  pool: pg.Pool
  /** Reads them, so that no download waits for a run, nor a run for a download. @default pool */
  downloads?: pg.Pool
  /** @default 'csv_export' */
  schema?: string
}

/** Bytes. Of this size a bytea is written at 0.64 of the speed of a plain file; of 64 KiB at 0.26. */
const chunkSize = 1_048_576
/** Longest that what has been appended is kept back, in milliseconds. */
const flushAfter = 1_000
/** Bytes that a slow download holds in memory. */
const pieceSize = 131_072
/** Longest that a sweep waits for one who reads a table that has no file any more, a backup perhaps. */
const dropTimeout = '1s'

/** Only who keeps files in the database has to have it. */
const copyStreams = () => peer('pg-copy-streams', 'PostgresFiles', import('pg-copy-streams'))

type Queryable = Pick<pg.ClientBase, 'query'>

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

  /** @throws CSV_EXPORT_NOT_INSTALLED without pg-copy-streams, or an error of PostgreSQL */
  async prepare(): Promise<void> {
    await copyStreams()
    await migrate(this.#pool, this.#schema, 'file_migrations', migrations)
  }

  async create(id: string): Promise<FileWriter> {
    const day = new Date().toISOString().slice(0, 10).replaceAll('-', '')
    const chunks = this.#chunksOf(day)
    // One text, so that it is one transaction: no file is without its table.
    await this.#pool.query(`
      ${lockTables};
      CREATE TABLE IF NOT EXISTS ${chunks} (
        file_id uuid, start bigint, data bytea STORAGE EXTERNAL NOT NULL, PRIMARY KEY (file_id, start)
      );
      INSERT INTO ${this.#schema}.files (id, day) VALUES (${pg.escapeLiteral(id)}, '${day}')`)
    return this.#writer(id, chunks)
  }

  #writer(id: string, chunks: string): FileWriter {
    // The row of the file is the claim: what has lost it writes nothing.
    const file = `SELECT id FROM ${this.#schema}.files WHERE id = $1 AND sealed_at IS NULL`
    const insert = `
      WITH file AS (${file} FOR KEY SHARE)
      INSERT INTO ${chunks} (file_id, start, data) SELECT id, $2, $3 FROM file`
    const seal = `
      WITH file AS (${file} FOR UPDATE),
      last AS (INSERT INTO ${chunks} (file_id, start, data) SELECT id, $2, $3 FROM file WHERE length($3::bytea) > 0)
      UPDATE ${this.#schema}.files SET sealed_at = now(), size = $2::bigint + length($3::bytea) FROM file WHERE files.id = file.id`
    const run = async (client: Queryable, statement: string, data: Buffer, start: number): Promise<void> => {
      const { rowCount } = await client.query(statement, [id, start, data])
      if (rowCount !== 1) throw new CSV_EXPORT_CLAIM_LOST()
    }
    const sink: FileSink = {
      write: (data, start) => run(this.#pool, insert, data, start),
      seal: (data, start) => transaction(this.#pool, (client) => run(client, seal, data, start))
    }
    return gather(chunkSize, sink, flushAfter)
  }

  read(id: string, from: number, to: number): AsyncIterable<Buffer> {
    const open = async (): Promise<SealedFile> => {
      const { rows } = await this.#downloads.query(
        `SELECT day, size::float8 FROM ${this.#schema}.files WHERE id = $1 AND sealed_at IS NOT NULL`,
        [id]
      )
      const { day, size } = rows[0] ?? {}
      return { size, read: (at, end, into) => this.#copy(piece(this.#chunksOf(day), id, at, end), into) }
    }
    return new Pieces(id, open, from, to, pieceSize)
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

  /** Drops the tables of days that have no file any more. Today's is about to have one. */
  async sweep(): Promise<void> {
    const { rows } = await this.#pool.query(
      `SELECT right(tablename, 8) AS day FROM pg_tables
       WHERE schemaname = $1 AND tablename ~ '^chunks_\\d{8}$'
         AND tablename < 'chunks_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')`,
      [this.#name]
    )
    for (const { day } of rows) await this.#dropIfEmpty(day)
  }

  async #dropIfEmpty(day: string): Promise<void> {
    await transaction(this.#pool, async (client) => {
      // Who creates a file waits for it, so that the file's table is not dropped.
      await client.query(lockTables)
      const { rowCount } = await client.query(`SELECT FROM ${this.#schema}.files WHERE day = $1 LIMIT 1`, [
        day
      ])
      if (rowCount !== 0) return
      await client.query(`SET LOCAL lock_timeout = '${dropTimeout}'`)
      await client.query(`DROP TABLE IF EXISTS ${this.#chunksOf(day)}`)
    }).catch(ignoreLocked)
  }

  async *list(): AsyncGenerator<string> {
    const { rows } = await this.#pool.query(`SELECT id FROM ${this.#schema}.files`)
    for (const { id } of rows) yield id
  }

  #chunksOf(day: string): string {
    return `${this.#schema}.chunks_${day}`
  }

  /** A column of bytea, as binary: as text it would be twice as long, and pg's own `binary` spoils it. */
  async #copy(query: string, into: Buffer[]): Promise<void> {
    const { to } = await copyStreams()
    // A connection that is lost says so here, too.
    const onError = (): void => {}
    const client = await borrow(this.#downloads, onError)
    try {
      const fields = new BinaryFields(into)
      const copied = client.query(to(`COPY (${query}) TO STDOUT (FORMAT binary)`))
      await finished(copied.on('data', (bytes: Buffer) => fields.add(bytes)))
      client.off('error', onError)
      client.release()
    } catch (error) {
      client.release(true)
      throw error
    }
  }
}

/** All chunks from the one that `from` is in; those of a slow report are short. */
function piece(chunks: string, id: string, from: number, to: number): string {
  const ofFile = `file_id = ${pg.escapeLiteral(id)}`
  return `
    SELECT substring(data FROM (greatest(${from} - start, 0) + 1)::integer FOR (${to} - greatest(${from}, start))::integer)
    FROM ${chunks} WHERE ${ofFile} AND start < ${to}
      AND start >= (SELECT max(start) FROM ${chunks} WHERE ${ofFile} AND start <= ${from})
    ORDER BY start`
}

function ignoreLocked(error: unknown): void {
  const lockNotAvailable = '55P03'
  if ((error as pg.DatabaseError).code !== lockNotAvailable) throw error
}
