import type { ExportStatus } from '../../plugins/csv-export/index.ts'
import { seededRandom } from './random.ts'
import type { Coding } from './soak-clients.ts'

/**
 * `read` a small report to its end, `readAll` the whole one; `leave` after some bytes; `leaveEarly` at some moment,
 * perhaps before the headers; `stall`: read no more after some bytes; `strike`: have the database end the connection or
 * the query of some download, perhaps of this one.
 */
export type Way = 'read' | 'readAll' | 'leave' | 'leaveEarly' | 'stall' | 'strike'

const ways: Way[] = [
  ...Array<Way>(8).fill('read'),
  ...Array<Way>(5).fill('leave'),
  ...Array<Way>(2).fill('leaveEarly'),
  ...Array<Way>(1).fill('stall'),
  ...Array<Way>(4).fill('strike')
]

/** What each way leads to, unless the download is struck or the server closes. */
export const endings: Record<Way, ExportStatus> = {
  read: 'complete',
  readAll: 'complete',
  leave: 'client_gone',
  leaveEarly: 'client_gone',
  stall: 'client_stalled',
  strike: 'complete'
}

/**
 * Not those that leave or stall after some bytes: the operating system may keep all of a coded report for its client, which
 * then is complete.
 */
const codable: Way[] = ['read', 'readAll', 'leaveEarly', 'strike']
export const codings: Coding[] = ['gzip', 'br', 'zstd']

/** What one download does. */
export interface Plan {
  id: string
  way: Way
  underWayAtClose: boolean
  trailers: boolean
  coding: Coding | undefined
  /** Whether it is the report that PostgreSQL encodes. */
  copy: boolean
  keepAlive: boolean
  limit: number
  /** After these the client does what its way says. */
  bytes: number
  turns: number
  terminate: boolean
}

/** Plans downloads at random, the same ones for the same seed. */
export class Planner {
  readonly #random: () => number

  constructor(seed: number) {
    this.#random = seededRandom(seed)
  }

  upTo(limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  plan(id: string, underWayAtClose: boolean): Plan {
    const way = underWayAtClose && this.#random() < 0.7 ? 'readAll' : (ways[this.upTo(ways.length)] as Way)
    return {
      id,
      way,
      underWayAtClose,
      trailers: this.#random() < 0.5,
      coding: this.#random() < 0.4 && codable.includes(way) ? codings[this.upTo(codings.length)] : undefined,
      copy: this.#random() < 0.3 && way !== 'read' && way !== 'strike',
      keepAlive: this.#random() < 0.5,
      limit: this.upTo(4_000),
      bytes: this.upTo(500_000),
      turns: this.upTo(60),
      terminate: this.#random() < 0.7
    }
  }
}
