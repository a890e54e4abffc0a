import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2Session } from 'node:http2'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { socketBelow } from './connection.ts'
import { onHead, retryAfter } from './headers.ts'
import { watchWrongRequests } from './hold.ts'
import { destroyIfStuck } from './sockets.ts'

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
    const closed = Promise.withResolvers<void>()
    releases.push(sayWhenToComeBack(app.server), onClosed(app.server, closed.resolve))
    await end(now - began)
    closed.promise.then(() => sessionsOf(app.server).close())
  }
  const begin = (): Promise<void> => (closing ??= close())
  app.addHook('preClose', begin)
  app.addHook('onReady', (done) => {
    // An app that fails before is never closed.
    sessionsOf(app.server)
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

/**
 * Calls back when the server itself closes. A connection whose download ends after that does not stay open for Fastify's keep-alive
 * time of 72 s. No event tells of it before all connections have ended.
 */
function onClosed(server: FastifyInstance['server'], callback: () => void): () => void {
  const { close } = server
  const closeServer: typeof close = function (this: typeof server, ...args) {
    const closed = close.apply(this, args)
    // The close of an app that another one takes the place of leaves it open.
    if (!server.listening) {
      Object.assign(server, { keepAliveTimeout: 1, keepAliveTimeoutBuffer: 0 })
      callback()
    }
    return closed
  }
  server.close = closeServer
  return () => {
    // What has wrapped it since would be lost.
    if (server.close === closeServer) server.close = close
  }
}

interface Sessions {
  /** Closes the open ones, and those that still come, each when what runs in it has ended. */
  close(): void
}

const watched = new WeakMap<FastifyInstance['server'], Sessions>()

/**
 * Before version 24, Node leaves idle sessions of HTTP/2 open when their server closes, which waits for them; later ones, those
 * whose TLS handshake lasts until then.
 */
function sessionsOf(server: FastifyInstance['server']): Sessions {
  const known = watched.get(server)
  if (known !== undefined) return known
  const open = new Map<Http2Session, Socket>()
  let isClosing = false
  server.on('session', (session: Http2Session) => {
    // Kept, as a session that is over has none: a listener ahead of this one may have refused it.
    const socket = socketBelow(session)
    if (socket === null) return
    if (isClosing) closeSession(session, socket)
    open.set(session, socket)
    session.once('close', () => open.delete(session))
  })
  const sessions = {
    close() {
      isClosing = true
      for (const [session, socket] of open) closeSession(session, socket)
    }
  }
  watched.set(server, sessions)
  return sessions
}

function closeSession(session: Http2Session, socket: Socket): void {
  // What runs in it may take its time. Of a session that is over, which has none, the client still has to close its side.
  destroyIfStuck(socket, () => session.state.outboundQueueSize !== 0)
  session.close()
}
