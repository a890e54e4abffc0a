/** No connection could be had, or it was lost: the database is down, or all connections stay busy. */
export class DatabaseUnavailable extends Error {
  statusCode = 503
  code = 'DATABASE_UNAVAILABLE'
  constructor(cause: unknown) {
    super('the database is not available: try again later', { cause })
  }
}
