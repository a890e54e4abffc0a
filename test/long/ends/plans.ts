/** What is to end an export; `closing` is left to the end of its server. */
export type Cause =
  | 'complete'
  | 'throw'
  | 'maxRows'
  | 'maxDuration'
  | 'sourceStalls'
  | 'leave'
  | 'stall'
  | 'ended'
  | 'closing'
  | 'replaced'
  | 'head'

export type Shape =
  | 'generator'
  | 'batches'
  | 'async generator'
  | 'async batches'
  | 'iterator'
  | 'stream'
  | 'web stream'

/** What the server is asked for. JSON, sent as the header `plan`. */
export interface Asked {
  id: string
  shape: Shape
  /** Rows until what comes `then`. */
  rows: number
  then: 'end' | 'go on' | 'wait' | 'throw'
  /** The name of what is thrown. */
  value: string
  /** What the clean-up of a source that is let go early does. */
  release: 'quiet' | 'throws' | 'rejects'
  /** Rows after each of which the source waits a turn; 0 is never. */
  pause: number
  /** Of those between two batches with rows. */
  emptyBatches: number
  /** What a hook makes of the payload. */
  hook: string | undefined
  /** What the server's own code does once the rows have been given. */
  end: string | undefined
  limits: { maxRows?: number; maxDuration?: number; sourceTimeout?: number; stallTimeout?: number }
}

/** An export, and what its client does. */
export interface Plan extends Asked {
  cause: Cause
  /** Bytes, or else turns of the event loop, after which the client does what it does. */
  bytes: number | undefined
  turns: number
  /** How a client of HTTP/2 leaves: the code of its RST_STREAM, or what else it calls. */
  reset: number | 'destroy()' | 'destroy(error)'
  coding: string | undefined
  trailers: boolean
}

export type SceneKind = 'alone' | 'HTTP/1.0' | 'kept' | 'pipelined' | 'session' | 'injected'

/** Clients of one connection. */
export interface Scene {
  kind: SceneKind
  server: string
  plans: Plan[]
  /** What the client does with the connection while exports run on it. */
  leave: 'not' | 'destroy' | 'half-close' | 'reset' | 'session.close' | 'session.destroy' | 'goaway'
  /** The code of that GOAWAY. */
  code: number
  /** Bytes of all bodies after which it does. */
  bytes: number
  underWayAtClose: boolean
}

/** Exports that a server admits at a time: more than the clients have under way. */
export const places = 150
