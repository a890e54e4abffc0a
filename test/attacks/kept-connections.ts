import { once } from 'node:events'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:http2'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'
import { Victim } from './attack.ts'
import type { Kept } from './subjects/kept.ts'

export interface Download {
  path: string
  method?: string
  headers?: Record<string, string>
  status?: number
}

/** Each kind of an end that leaves its connection open. */
export const downloads: Record<string, Download> = {
  'an array': { path: '/array' },
  'an array, coded': { path: '/array', headers: { 'accept-encoding': 'gzip' } },
  'a generator': { path: '/generator' },
  'a generator, coded': { path: '/generator', headers: { 'accept-encoding': 'br' } },
  'one with limits': { path: '/late' },
  'one with a handlerTimeout': { path: '/timed' },
  trailers: { path: '/array', headers: { te: 'trailers' } },
  'trailers of what is coded': { path: '/array', headers: { te: 'trailers', 'accept-encoding': 'zstd' } },
  text: { path: '/text' },
  HEAD: { path: '/array', method: 'HEAD' },
  'an error before the first byte': { path: '/early', status: 500 },
  'wrong options': { path: '/refused', status: 500 },
  'a Range': { path: '/array', headers: { range: 'bytes=5-' }, status: 412 },
  'a hook that reads it': { path: '/array?hook=reads' },
  'a hook that pipes it': { path: '/array?hook=pipes' },
  'a hook that replaces it': { path: '/array?hook=replaces' }
}

/** One connection to a server in a process of its own. */
export interface Connection {
  /** Resolves to the body when all of it has come. */
  get(download: Download): Promise<{ status: number | undefined; body: string }>
}

const address = (victim: Victim) => victim.prepare('').then(({ url }) => url)

export const connections: Record<string, (t: Test) => Promise<Connection>> = {
  async 'HTTP/1.1'(t) {
    const origin = await address(await Victim.start(t, new URL('subjects/kept.ts', import.meta.url)))
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    t.teardown(() => agent.destroy())
    let socket: unknown
    return {
      async get({ path, method = 'GET', headers = {} }) {
        const request = httpRequest(origin + path, { agent, method, headers }).end()
        const [[own], [response]] = await Promise.all([once(request, 'socket'), once(request, 'response')])
        socket ??= own
        if (socket !== own) throw new Error('not the same connection')
        return { status: response.statusCode, body: await text(response as IncomingMessage) }
      }
    }
  },

  async 'HTTP/2'(t) {
    const session = connect(
      await address(await Victim.start(t, new URL('subjects/kept-http2.ts', import.meta.url)))
    )
    t.teardown(() => session.destroy())
    return {
      async get({ path, method = 'GET', headers = {} }) {
        const stream = session.request({ ':path': path, ':method': method, ...headers })
        const [head] = await once(stream, 'response')
        return { status: head[':status'], body: await text(stream) }
      }
    }
  }
}

export async function keptBy(connection: Connection): Promise<Kept> {
  return JSON.parse((await connection.get({ path: '/kept' })).body)
}

/** That nothing of the downloads is left, of whose connection it was `before`. */
export async function checkKept(t: Test, connection: Connection, before: Kept): Promise<Kept> {
  const kept = await keptBy(connection)
  // The last one's may still be on the stack.
  t.ok(kept.rows <= 2, `${kept.rows} exports are still in memory`)
  t.strictSame(kept.listeners, before.listeners, 'listeners of the connection')
  t.strictSame(kept.resources, before.resources, 'timers')
  t.strictSame(kept.warnings, [], 'warnings')
  return kept
}
