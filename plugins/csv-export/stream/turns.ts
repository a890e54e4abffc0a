const waiting: (() => void)[] = []

/**
 * Resolves in a turn of the event loop that no other export has: with many of them, everything else that the process does
 * waits for one chunk of one export, not for one chunk of each.
 */
export function ownTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (waiting.push(resolve) === 1) setImmediate(giveTurn)
  })
}

function giveTurn(): void {
  const resolve = waiting.shift()
  if (waiting.length > 0) setImmediate(giveTurn)
  resolve?.()
}
