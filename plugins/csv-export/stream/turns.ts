/** Milliseconds of work in one turn of the event loop, as far as it can be chosen. */
const longestTurn = 0.5

const waiting: (() => void)[] = []
/** Of the turn that is being used, on the clock of `performance.now()`. */
let startedAt: number | undefined
let isNextDue = false

/**
 * Resolves in a turn of the event loop that no other export has: with many of them, everything else that the process does
 * waits for one chunk of one export, not for one chunk of each.
 */
export function ownTurn(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve)
    planNext()
  })
}

/**
 * As `ownTurn()`, but undefined while the turn that is being used has time left.
 * @param longest milliseconds
 */
export function turnIfDue(longest = longestTurn): Promise<void> | undefined {
  if (startedAt === undefined) {
    startedAt = performance.now()
    planNext()
    return undefined
  }
  return performance.now() - startedAt < longest ? undefined : ownTurn()
}

function planNext(): void {
  if (isNextDue) return
  isNextDue = true
  setImmediate(next)
}

function next(): void {
  isNextDue = false
  startedAt = undefined
  const resolve = waiting.shift()
  if (resolve === undefined) return
  startedAt = performance.now()
  planNext()
  resolve()
}
