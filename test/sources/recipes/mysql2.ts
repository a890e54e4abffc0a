// reply.csv(() => mysqlRows(pool, 'SELECT * FROM cargoes WHERE weight > ?', [weight], connectionOptions))
import type { Readable } from 'node:stream'
import mysql, { type ConnectionOptions, type Pool, type PoolConnection } from 'mysql2'

/** @param options of the pool's connections */
export async function mysqlRows(
  pool: Pool,
  text: string,
  values: unknown[],
  options: ConnectionOptions
): Promise<Readable> {
  const connection = await new Promise<PoolConnection>((resolve, reject) => {
    pool.getConnection((error, connection) => (error ? reject(error) : resolve(connection)))
  })
  const rows = connection.query(text, values as string[]).stream({ highWaterMark: 100 })
  // The loss of a connection is told to it alone.
  const onError = (error: Error) => void rows.destroy(error)
  connection.on('error', onError)
  rows.once('close', async () => {
    // A closed connection ends its statement only when that has rows to send.
    if (!rows.readableEnded) await kill(options, connection.threadId).catch(() => {})
    connection.off('error', onError)
    if (rows.readableEnded) connection.release()
    else connection.destroy()
  })
  return rows
}

/** Not by a connection of the pool: all of them may be waiting. */
async function kill(options: ConnectionOptions, id: number): Promise<void> {
  const other = mysql.createConnection(options).promise()
  await other.query(`KILL QUERY ${id}`)
  await other.end()
}
