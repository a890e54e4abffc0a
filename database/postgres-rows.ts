import pg from 'pg'
import { to as copyTo } from 'pg-copy-streams'
import Cursor from 'pg-cursor'
import { DatabaseUnavailable } from './database-unavailable.ts'
import type { Lease, TextRow } from './postgres.ts'

const asText = { getTypeParser: () => (value: string | null) => value } as unknown as pg.CustomTypesConfig

interface Query {
  text: string
  values: unknown[]
  batchSize: number
}

/** The rows of a query through a cursor. The next batch is under way while the last one is used, and never more. */
export async function* cursorBatches(
  lease: Lease,
  { text, values, batchSize }: Query,
  signal: AbortSignal | undefined
): AsyncGenerator<TextRow[]> {
  const cursor = lease.client.query(new Cursor<TextRow>(text, values, { types: asText, rowMode: 'array' }))
  let reading = false
  const read = (): Promise<TextRow[]> => {
    reading = true
    const batch = readRows(lease.client, cursor, batchSize).finally(() => {
      reading = false
    })
    // Nobody may be waiting for it yet.
    batch.catch(() => {})
    return batch
  }
  const onAbort = (): void => {
    if (reading) lease.cancel()
  }
  signal?.addEventListener('abort', onAbort)
  try {
    for (let next = read(); ; ) {
      const batch = await next
      signal?.throwIfAborted()
      if (batch.length === 0) return
      next = read()
      yield batch
    }
  } catch (error) {
    lease.release(error as Error)
    throw reasonOf(error, signal)
  } finally {
    signal?.removeEventListener('abort', onAbort)
    // Should the connection be lost before the answer, the lease gives it back itself.
    cursor.close(() => lease.release())
  }
}

/** What PostgreSQL itself makes of a query as CSV, header and all. */
export async function* copyOut(
  lease: Lease,
  query: string,
  signal: AbortSignal | undefined
): AsyncGenerator<Buffer> {
  const cancel = (): void => lease.cancel()
  signal?.addEventListener('abort', cancel)
  try {
    yield* lease.client.query(
      copyTo(`COPY (${query}) TO STDOUT (FORMAT csv, HEADER)`)
    ) as AsyncIterable<Buffer>
    lease.release()
  } catch (error) {
    throw reasonOf(error, signal)
  } finally {
    signal?.removeEventListener('abort', cancel)
    // A connection that is still copying can do nothing else.
    lease.cancel()
  }
}

/** The next rows. A cursor that has had its last one does not answer when the connection is lost just then. */
function readRows(client: pg.PoolClient, cursor: Cursor<TextRow>, count: number): Promise<TextRow[]> {
  return new Promise((resolve, reject) => {
    const onEnd = (): void => reject(new Error('the database connection was lost'))
    client.once('end', onEnd)
    cursor.read(count, (error, rows) => {
      client.off('end', onEnd)
      if (error) reject(error)
      else resolve(rows)
    })
  })
}

function reasonOf(error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return signal.reason
  // What the server has not said itself is the network's, under one of many codes: EPIPE, ECONNRESET, or none.
  return error instanceof pg.DatabaseError ? error : new DatabaseUnavailable(error)
}
