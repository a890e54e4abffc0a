import type { Server } from 'node:http'
import type { ServerHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { listenerCounts } from '../held.ts'
import { openSources } from './sources.ts'

/** What is left of exports that are over, while the connections of some are kept. */
export interface Left {
  /** Ids of exports. */
  sources: string[]
  /** Of those that have begun. */
  withoutReceipt: string[]
  /** Timers and immediates of the process. */
  timers: string[]
  /** How those connections look that do not look like one which never had an export. */
  connections: string[]
}

/** What is left when the clients have closed their connections. */
export interface Quiet {
  sockets: number
  sessions: number
}

/** Longest wait in milliseconds for what is over to be let go. */
const patience = 3_000

const sockets = new Map<Socket, string>()
const sessions = new Map<ServerHttp2Session, string>()
/** Of connections that never had an export. */
const plainLooks = new Set<string>()

export function watchConnections(name: string, server: unknown): void {
  const keep = (socket: Socket): void => {
    sockets.set(socket, name)
    socket.once('close', () => sockets.delete(socket))
  }
  ;(server as Server).on('connection', keep).on('secureConnection', keep)
  ;(server as Server).on('session', (session: ServerHttp2Session) => {
    sessions.set(session, name)
    session.once('close', () => sessions.delete(session))
  })
}

/** To be called when each server has a connection, and none has had an export. */
export function lookAtPlain(): void {
  for (const look of looks()) plainLooks.add(look)
}

export async function leftOf(begun: Set<string>, ended: Set<string>): Promise<Left> {
  const left = (): Left => ({
    sources: [...openSources],
    withoutReceipt: [...begun].filter((id) => !ended.has(id)),
    timers: process.getActiveResourcesInfo().filter((name) => name === 'Timeout'),
    connections: looks().filter((look) => !plainLooks.has(look))
  })
  await until(() => Object.values(left()).every(({ length }) => length === 0))
  return left()
}

export async function quietOf(): Promise<Quiet> {
  await until(() => sockets.size === 0 && sessions.size === 0)
  return { sockets: sockets.size, sessions: sessions.size }
}

/** Its own wait is a timer, too, which has fired when the condition is asked. */
async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + patience
  while (!condition() && performance.now() < deadline) await sleep(5)
}

function looks(): string[] {
  return [...sockets, ...sessions].map(([emitter, server]) => {
    const { resetAndClosing = false } = emitter as { resetAndClosing?: boolean }
    return JSON.stringify({ server, resetAndClosing, ...listenerCounts(emitter) })
  })
}
