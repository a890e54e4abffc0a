/** Of PostgreSQL: no connection, no resources, shut down by an operator or a crash, to be tried again. */
const transientClasses = /^(08|53|57P0|40001|40P01|25006|58)/

/** Of the network, and of what is in between; a file that is gone while its run is still to be made. */
const networkCodes =
  /^(E(CONN|PIPE|HOSTUNREACH|NETUNREACH|TIMEDOUT|NOTFOUND|AI_AGAIN)|CSV_EXPORT_(DATABASE_UNAVAILABLE|CLAIM_LOST)$)/

const networkMessages =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error)/

/** Whether another attempt may do better: the infrastructure's fault, not the report's. */
export function isTransient(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false
  const { code, message, cause, retriable } = error as Record<string, unknown>
  if (retriable === true) return true
  if (typeof code === 'string' && (transientClasses.test(code) || networkCodes.test(code))) return true
  if (typeof message === 'string' && networkMessages.test(message)) return true
  return isTransient(cause)
}
