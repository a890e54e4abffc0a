import type { View } from '../subject.ts'

/** What the server says of itself, by a connection that is none of the library's. */
export interface Watch {
  /** Where it is one with the engine, which then is in the same process. */
  url?: string
  /** Statements on a view that have not ended. */
  running(view: View): Promise<number>
  /** Statements that are in the wait of the view `waiting`. */
  sleeping?(): Promise<number>
  /** Ends the connections that run a statement on a view. */
  kill?(view: View): Promise<void>
  close(): Promise<void>
}

export interface Engine {
  url: string
  version: string
  stop(): Promise<void>
}
