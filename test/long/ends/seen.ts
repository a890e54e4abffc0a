import type { Body } from './file.ts'
import type { Plan } from './plans.ts'

/**
 * How a reply ended. `whole`: by the rules of its protocol nothing is missing; `short`: the client sees that something is;
 * `left`: the client has left; `none`: it waits for good.
 */
export type End = 'whole' | 'short' | 'left' | 'none'

/** An export as its client has seen it. */
export interface Seen {
  plan: Plan
  status: number | undefined
  exportId: string | undefined
  end: End
  body: Body
}

/**
 * Longest time in milliseconds that a client waits for an end. On a busy machine the kernel may take 20 s for the megabytes
 * that it takes of a client that has stopped reading, and only then does the server's own time begin.
 */
const patience = 60_000

/** Whether it is over in the time that a client waits. @param giveUp has it be over at last */
export async function isOverInTime(over: Promise<unknown>, giveUp: () => void): Promise<boolean> {
  let isInTime = true
  const timer = setTimeout(() => {
    isInTime = false
    giveUp()
  }, patience)
  await over
  clearTimeout(timer)
  return isInTime
}

/** @param end none where its client has heard of no end, though the connection is over */
export function endOf(end: End, isInTime: boolean): End {
  if (!isInTime) return 'none'
  return end === 'none' ? 'short' : end
}

export function headersOf(plan: Plan): Record<string, string> {
  const { id, coding, trailers } = plan
  return {
    'x-export': id,
    plan: JSON.stringify(plan),
    ...(coding && { 'accept-encoding': coding }),
    ...(trailers && { te: 'trailers' })
  }
}
