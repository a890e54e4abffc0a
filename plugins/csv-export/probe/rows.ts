import { randomBytes } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'

// What a probe asks for and gets: known to the route and to the program that asks it.

/** Where the route is, if its option does not say. */
export const usualPath = '/csv-export-probe'

/** The most of each. They keep the route from being a load: anyone may ask it. */
export const most = { rows: 1_000, bytes: 1_048_576, milliseconds: 120_000, atATime: 8 } as const

export interface ProbeRequest {
  rows: number
  /** Milliseconds between two rows. */
  interval: number
  /** Of padding, in each row. */
  bytes: number
  /** Rows after which the body is to break; 0 is never. */
  breakAfter: number
}

/** What is asked for, within bounds. */
export function readProbeRequest(search: URLSearchParams): ProbeRequest {
  const read = (name: keyof ProbeRequest, otherwise: number, highest: number) => {
    const value = Math.trunc(Number(search.get(name) ?? otherwise))
    return Math.min(Math.max(0, value || 0), Math.floor(highest))
  }
  const rows = Math.max(1, read('rows', 10, most.rows))
  return {
    rows,
    interval: read('interval', 100, most.milliseconds / Math.max(1, rows - 1)),
    bytes: read('bytes', 0, most.bytes / rows),
    breakAfter: read('breakAfter', 0, rows)
  }
}

/** What a row says of its request as the server has got it, and of the reply. */
export interface Seen {
  /** As '1.1'. */
  httpVersion: string
  /** What the plugin codes the body with, or ''. */
  coding: string
  /** Whether the server has been asked for trailers. */
  asksTrailers: boolean
}

export interface ProbeRow extends Seen {
  /** From 1. */
  number: number
  /** When it was made, by the server's clock, in milliseconds. */
  sent: number
}

export const headerLine = 'row,sent,http,coding,trailers,padding'

/** Lines of CSV, at their pace. */
export async function* probeLines(
  { rows, interval, bytes }: ProbeRequest,
  { httpVersion, coding, asksTrailers }: Seen,
  signal: AbortSignal
): AsyncGenerator<string> {
  yield `${headerLine}\n`
  for (let number = 1; number <= rows; number++) {
    if (number > 1) await setTimeout(interval, undefined, { signal })
    // Random, so that it stays as long when it is coded.
    const padding = randomBytes(bytes).toString('base64url').slice(0, bytes)
    yield `${number},${Date.now()},${httpVersion},${coding},${asksTrailers ? 1 : 0},${padding}\n`
  }
}

/** A line as `probeLines()` makes it. */
export function readProbeRow(line: string): ProbeRow | undefined {
  const found = /^(\d+),(\d+),([\d.]+),(\w*),([01]),[\w-]*$/.exec(line)
  if (found === null) return undefined
  const [, number, sent, httpVersion = '', coding = '', trailers] = found
  return { number: Number(number), sent: Number(sent), httpVersion, coding, asksTrailers: trailers === '1' }
}
