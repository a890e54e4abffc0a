import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2Session } from 'node:http2'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { socketBelow } from '../connection/connection.ts'
import { watchWrongRequests } from '../connection/hold.ts'
import { destroyIfStuck } from '../connection/sockets.ts'
import { onHead, retryAfter } from './headers.ts'

/** When the close of an app began. All its contexts have one `initialConfig`, and are closed one after the other. */
const closings = new WeakMap<object, number>()

/**
 * Ends what runs when the server closes, and leaves nothing behind: the server itself may go on with another app, as with
 * @fastify/restartable.
 *
 * Fastify's close waits for it, unless a preClose hook that comes first fails or takes too long: then it calls no other, and waits
 * for what runs instead.
 * @param end called once, with the milliseconds that have passed since the close began
 */
export function endWithServer(app: FastifyInstance, end: (passed: number) => Promise<void>): void {
  const releases: (() => void)[] = []
  let closing: Promise<void> | undefined
  const close = async (): Promise<void> => {
    const now = performance.now()
    const began = closings.get(app.initialConfig) ?? now
    closings.set(app.initialConfig, began)
    releases.push(sayWhenToComeBack(app.server))
    await end(now - began)
  }
  const begin = (): Promise<void> => (closing ??= close())
  app.addHook('preClose', begin)
  app.addHook('onReady', (done) => {
    // An app that fails before is never closed.
    watchServer(app.server)
    releases.push(watchWrongRequests(app.server))
    // Of avvio, which begins with what came last: Fastify's own part, in which the hooks are called, was there before.
    const { onClose } = app as { onClose?: (listener: (app: unknown, done: () => void) => void) => void }
    onClose?.call(app, (_app, next) => {
      begin()
      next()
    })
    done()
  })
  app.addHook('onClose', async () => {
    await begin()
    for (const release of releases) release()
  })
}

/** Fastify answers 503 by itself from now on, before any hook runs, unless its `return503OnClosing` is false. */
function sayWhenToComeBack(server: FastifyInstance['server']): () => void {
  const onRequest = (_request: IncomingMessage, response: ServerResponse): void => {
    onHead(response, (statusCode) => {
      if (statusCode === 503) response.setHeader('retry-after', retryAfter)
    })
  }
  server.prependListener('request', onRequest)
  return () => void server.off('request', onRequest)
}

const watched = new WeakSet<FastifyInstance['server']>()

/**
 * What a server's own close lacks, which it may have done for many apps, and more than once. Of an app that another one takes the
 * place of, the close leaves the server as it is.
 *
 * - A connection whose download ends after it would stay open for Fastify's keep-alive time of 72 s.
 * - Before version 24, Node leaves idle sessions of HTTP/2 open, and waits for them; later ones, those whose TLS handshake lasts until
 *   then.
 */
function watchServer(server: FastifyInstance['server'] & KeepAlive): void {
  if (watched.has(server)) return
  watched.add(server)
  const sessions = new Map<Http2Session, Socket>()
  let isClosed = false
  server.on('session', (session: Http2Session) => {
    // Kept, as a session that is over has none: a listener ahead of this one may have refused it.
    const socket = socketBelow(session)
    if (socket === null) return
    if (isClosed) closeSession(session, socket)
    sessions.set(session, socket)
    session.once('close', () => sessions.delete(session))
  })
  const { close } = server
  // No event tells of it before all connections have ended.
  server.close = function (this: typeof server, ...args) {
    const closed = close.apply(this, args)
    if (server.listening || isClosed) return closed
    isClosed = true
    const { keepAliveTimeout, keepAliveTimeoutBuffer } = server
    Object.assign(server, { keepAliveTimeout: 1, keepAliveTimeoutBuffer: 0 })
    server.once('listening', () => {
      isClosed = false
      // Whoever has it listen again may have set another.
      if (server.keepAliveTimeout === 1) Object.assign(server, { keepAliveTimeout, keepAliveTimeoutBuffer })
    })
    for (const [session, socket] of sessions) closeSession(session, socket)
    return closed
  }
}

type KeepAlive = { keepAliveTimeout?: number; keepAliveTimeoutBuffer?: number }

/** When what runs in it has ended. */
function closeSession(session: Http2Session, socket: Socket): void {
  // What runs in it may take its time. Of a session that is over, which has none, the client still has to close its side.
  destroyIfStuck(socket, () => session.state.outboundQueueSize !== 0)
  session.close()
}
