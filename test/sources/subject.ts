import type { CsvOptions } from '../../plugins/csv-export/index.ts'

export type View = 'few' | 'whole' | 'failing' | 'big' | 'waiting'
export type EngineName = 'PostgreSQL' | 'MariaDB' | 'SQLite' | 'DuckDB' | 'HTTP'

/** A library with its connections, three of them, and one way to get rows out of it. */
export interface Way {
  /** As a rows function: what it gives is what `reply.csv()` streams. */
  rows(view: View, context: { signal: AbortSignal }): unknown
  /** Options of the call. */
  options?: CsvOptions
  close(): unknown
}

export interface Subject {
  name: string
  /** Whose versions the table has. */
  packages: string[]
  engine: EngineName
  /** Opens the recipe of the page. */
  recipe(url: string): Way | Promise<Way>
  /** Opens what the library's own pages show; missing where that is the recipe. */
  documented?(url: string): Way | Promise<Way>
  /** What the documented way does wrong: a run fails where it does not. */
  traps: Trap[]
  /** The same in a few words. */
  trap: string
  /** What the recipe cannot do either. */
  limits?: Trap[]
}

/** Columns of the table, each a thing to get right. */
export type Trap = 'whole' | 'failing' | 'killed' | 'killedIdle' | 'streaming' | 'waiting'

export interface Freed {
  /** Milliseconds until the statements were gone on the server; null: not within the time. */
  gone: number | null
  /** Milliseconds until a fourth download on a pool of three was whole; null: not within the time. */
  free: number | null
}

export interface Outcome {
  /** `whole`, or what was wrong with it. */
  whole: string
  /** `reset`, or the status and code of an error reply; `ends well` where it should not. */
  failing: string
  /** The same, when the connection is killed by the server; undefined where there is none. */
  killed?: string
  /** The same, while the client does not read. */
  killedIdle?: string
  streaming?: Freed
  waiting?: Freed
}

/** The wait of the view `waiting`, in milliseconds. */
export const WAIT = 3_000
/** After which nothing is waited for, in milliseconds. */
export const LIMIT = 5_000
/** How soon is at once, in milliseconds, on a busy machine. */
export const SOON = 1_500
export const WHOLE_ROWS = 20_000
