import type pg from 'pg'
import type Cursor from 'pg-cursor'

// What pg and pg-cursor keep to themselves, and their types do not know: all of it that is used stands in this file.

interface ClientInsides {
  /** What names a session in a CancelRequest, as the server told it when the session began. */
  processID?: unknown
  secretKey?: unknown
  connection?: {
    /** Sends the first message on a connection that is ready for it, TLS and all. */
    startup(config: unknown): void
    /** Sends a CancelRequest: 16 bytes. */
    cancel(processID: number, secretKey: number): void
  }
}

/**
 * Sends the server a CancelRequest for the statement of a client. It goes over a connection of its own, in place of the
 * first message, so another client is made the way that the pool makes them: to the same host or UNIX socket, through
 * the same TLS. Resolves when the server has got it, or cannot be reached.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
 *
 * @param patience most milliseconds that it may take
 */
export async function sendCancelRequest(
  pool: pg.Pool,
  client: pg.ClientBase,
  patience: number
): Promise<void> {
  const { processID, secretKey } = client as ClientInsides
  if (typeof processID !== 'number' || typeof secretKey !== 'number') return
  const Client = client.constructor as typeof pg.Client
  const messenger = new Client({ ...pool.options, connectionTimeoutMillis: patience })
  const { connection } = messenger as unknown as Required<ClientInsides>
  connection.startup = () => connection.cancel(processID, secretKey)
  messenger.on('error', () => {})
  // The server's answer is to close the connection, which pg takes for a failure.
  await messenger.connect().catch(() => {})
}

/**
 * Sends a query of another's making. Returns what stops the clock of the pool's `query_timeout`, as pg does for its own
 * queries: else it keeps the process from ending, and older releases call a callback that is not there.
 */
export function send(client: pg.ClientBase, query: pg.Submittable): () => void {
  const timed = Object.assign(query, { callback: (): void => {} })
  client.query(timed)
  return () => timed.callback()
}

interface CursorInsides {
  connection: { stream: { pause(): void; resume(): void } }
  handleRowDescription(message: { fields: { name: string }[] }): void
  handleDataRow(message: { fields: (string | null)[]; length: number }): void
  handleCopyInResponse?(): void
  handleCopyData?(): void
}

/** Calls back with the names of a cursor's columns, which come before its first row, and also where there is none. */
export function onDescription(cursor: Cursor, listener: (names: string[]) => void): void {
  const insides = cursor as unknown as CursorInsides
  const { handleRowDescription } = insides
  insides.handleRowDescription = (message) => {
    handleRowDescription.call(cursor, message)
    listener(message.fields.map(({ name }) => name))
  }
}

/**
 * Calls back with each row, and its bytes in the protocol, in place of a cursor's own way: that hands each value to a parser,
 * and emits an event for each row.
 */
export function onRow(cursor: Cursor, listener: (row: (string | null)[], bytes: number) => void): void {
  const insides = cursor as unknown as CursorInsides
  insides.handleDataRow = ({ fields, length }) => listener(fields, length)
}

/** Reads no more of what the server sends, which then waits until somebody does; or reads on. */
export function setReading(cursor: Cursor, isReading: boolean): void {
  const { stream } = (cursor as unknown as CursorInsides).connection
  if (isReading) stream.resume()
  else stream.pause()
}

/** Calls back where the statement of a cursor is a COPY. pg would call what is not there, in a turn that nobody guards. */
export function onCopy(cursor: Cursor, listener: () => void): void {
  Object.assign(cursor as unknown as CursorInsides, {
    handleCopyInResponse: listener,
    handleCopyData: listener
  })
}
