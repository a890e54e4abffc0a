/**
 * Whether it settles in time: what asks a database that is silent never does.
 * @throws what it rejects with, in that time
 */
export async function isSettled(work: Promise<unknown>, milliseconds: number): Promise<boolean> {
  const timeout = Promise.withResolvers<boolean>()
  const timer = setTimeout(timeout.resolve, milliseconds, false)
  try {
    return await Promise.race([work.then(() => true), timeout.promise])
  } finally {
    clearTimeout(timer)
  }
}
