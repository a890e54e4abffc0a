import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Http2Session } from 'node:http2'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { socketBelow } from './connection.ts'
import { onHead, retryAfter } from './headers.ts'
import { destroyIfStuck } from './sockets.ts'

/** When the close of a server began. */
const closings = new WeakMap<object, number>()

/**
 * Calls back once when the server begins to close. Fastify's close waits for it, unless a preClose hook that comes first fails or
 * takes too long: then it calls no other, and waits for what runs instead.
 */
export function onClosing(app: FastifyInstance, close: () => Promise<void>): void {
  let closing: Promise<void> | undefined
  const begin = (): Promise<void> => (closing ??= close())
  app.addHook('preClose', begin)
  app.addHook('onReady', (done) => {
    // Of avvio, which begins with what came last: Fastify's own part, in which the hooks are called, was there before.
    const { onClose } = app as { onClose?: (listener: (app: unknown, done: () => void) => void) => void }
    onClose?.call(app, (_app, next) => {
      begin()
      next()
    })
    done()
  })
}

/**
 * What Fastify's own close lacks for downloads, called when it begins: those refused meanwhile are told when to come
 * back, and a connection whose download ends meanwhile does not stay open for Fastify's keep-alive time of 72 s.
 * @returns milliseconds since it began: contexts that each have the plugin are closed one after the other
 */
export function prepareToClose(app: FastifyInstance): number {
  const began = closings.get(app.server)
  if (began !== undefined) return performance.now() - began
  closings.set(app.server, performance.now())
  const server = app.server as Server & { keepAliveTimeoutBuffer?: number }
  server.keepAliveTimeout = 1
  server.keepAliveTimeoutBuffer = 0
  // Fastify answers 503 by itself from now on, before any hook runs, unless its `return503OnClosing` is false.
  server.prependListener('request', (_request: IncomingMessage, response: ServerResponse) => {
    onHead(response, (statusCode) => {
      if (statusCode === 503) response.setHeader('retry-after', retryAfter)
    })
  })
  return 0
}

/**
 * Before version 24, Node leaves idle sessions of HTTP/2 open when their server closes, which waits for them; later ones, those
 * whose TLS handshake lasts until then.
 * @returns closes the open ones, and those that still come, each when what runs in it has ended
 */
export function watchSessions(server: FastifyInstance['server']): () => void {
  const sessions = new Map<Http2Session, Socket>()
  let isClosing = false
  server.on('session', (session: Http2Session) => {
    // Kept, as a session that is over has none.
    const socket = socketBelow(session) as Socket
    if (isClosing) closeSession(session, socket)
    sessions.set(session, socket)
    session.once('close', () => sessions.delete(session))
  })
  return () => {
    isClosing = true
    for (const [session, socket] of sessions) closeSession(session, socket)
  }
}

function closeSession(session: Http2Session, socket: Socket): void {
  // What runs in it may take its time. Of a session that is over, which has none, the client still has to close its side.
  destroyIfStuck(socket, () => session.state.outboundQueueSize !== 0)
  session.close()
}
