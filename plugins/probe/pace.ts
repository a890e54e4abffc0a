import { type ProbeRow, readProbeRow } from '../csv-export/probe/rows.ts'
import type { Reply } from './reply.ts'

/** Rows that came together. */
export interface Lump {
  rows: number
  bytes: number
  /** How long its first row was on the way, besides what the fastest of all was, in seconds. */
  seconds: number
}

/** How the rows of a reply came. */
export interface Pace {
  rows: ProbeRow[]
  /** Milliseconds from asking to the first of the body. */
  firstByte: number
  lumps: Lump[]
  /** How late a row was, in milliseconds: the median. */
  late: number
}

/** @param interval milliseconds between two rows at the server */
export function paceOf({ pieces }: Reply, interval: number): Pace {
  const arrivals = arrivalsOf(pieces)
  // The two clocks differ by what nobody knows, so the row that was fastest was in time.
  const fastest = Math.min(...arrivals.map(({ at, row }) => at - row.sent))
  const lates = arrivals.map(({ at, row }) => at - row.sent - fastest)
  const lumps: (Lump & { at: number })[] = []
  for (const [index, { at, bytes }] of arrivals.entries()) {
    const last = lumps.at(-1)
    if (last !== undefined && at - last.at < interval / 2) {
      last.rows++
      last.bytes += bytes
      last.at = at
    } else lumps.push({ rows: 1, bytes, seconds: (lates[index] as number) / 1_000, at })
  }
  return {
    rows: arrivals.map(({ row }) => row),
    firstByte: pieces[0]?.at ?? 0,
    lumps: lumps.map(({ rows, bytes, seconds }) => ({ rows, bytes, seconds })),
    late: median(lates)
  }
}

function arrivalsOf(pieces: Reply['pieces']): { row: ProbeRow; at: number; bytes: number }[] {
  const arrivals = []
  let rest = ''
  for (const { at, text } of pieces) {
    const lines = (rest + text).split('\n')
    rest = lines.pop() as string
    for (const line of lines) {
      const row = readProbeRow(line)
      if (row !== undefined) arrivals.push({ row, at, bytes: line.length + 1 })
    }
  }
  return arrivals
}

export function median(numbers: number[]): number {
  return numbers.toSorted((one, other) => one - other)[Math.floor(numbers.length / 2)] ?? 0
}
