// reply.csv(() => queryStreamRows(pool, 'SELECT * FROM cargoes WHERE weight > $1', [weight]))
import pg from 'pg'
import QueryStream from 'pg-query-stream'

class Rows extends QueryStream {
  // Its own waits for an answer, which never comes after an error or on a connection that is lost.
  override _destroy(error: Error | null, callback: (error?: Error | null) => void) {
    callback(error)
  }
}

export async function queryStreamRows(pool: pg.Pool, text: string, values: unknown[]): Promise<Rows> {
  const client = await pool.connect()
  const rows = new Rows(text, values)
  // The loss of a connection is told to the client alone.
  const onError = (error: Error) => void rows.destroy(error)
  client.on('error', onError)
  rows.once('close', async () => {
    if (!rows.readableEnded) await cancel(pool, client).catch(() => {})
    client.release(!rows.readableEnded)
    client.off('error', onError)
  })
  return client.query(rows)
}

/** Not by a connection of the pool: all of them may be waiting. */
async function cancel(pool: pg.Pool, client: pg.PoolClient & { processID?: number }): Promise<void> {
  const other = new pg.Client(pool.options)
  other.on('error', () => {})
  await other.connect()
  await other.query('SELECT pg_cancel_backend($1)', [client.processID])
  await other.end()
}
