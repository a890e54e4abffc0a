import type pg from 'pg'

/**
 * Borrows a connection, and listens to it from the first moment on: an error that nobody listens to ends the process. The end
 * of a connection may stand in one packet with the answer that frees it for the next one, who would still be waiting for a
 * promise then.
 * @param onError stays on the connection until it is taken off
 */
export function borrow(pool: pg.Pool, onError: (error: Error) => void): Promise<pg.PoolClient> {
  return new Promise((resolve, reject) => {
    pool.connect((error, client) => {
      if (client === undefined) reject(error)
      else resolve(client.on('error', onError))
    })
  })
}
