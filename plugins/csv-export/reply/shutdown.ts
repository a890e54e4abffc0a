import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Http2Session } from 'node:http2'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { socketBelow } from './connection.ts'
import { onHead, retryAfter } from './headers.ts'
import { watchWrongRequests } from './hold.ts'
import { destroyIfStuck } from './sockets.ts'

/** When the close of a server began, and what takes back what that has changed of it. */
const closings = new WeakMap<object, { began: number; undo(): void }>()

/**
 * Ends what runs when the server closes, and leaves nothing behind: the server itself may go on with another app, as with
 * @fastify/restartable.
 *
 * Fastify's close waits for it, unless a preClose hook that comes first fails or takes too long: then it calls no other, and waits
 * for what runs instead.
 * @param end called once, with the milliseconds that have passed since the close began
 */
export function endWithServer(app: FastifyInstance, end: (passed: number) => Promise<void>): void {
  const sessions = watchSessions(app.server)
  const unwatchWrongRequests = watchWrongRequests(app.server)
  let closing: Promise<void> | undefined
  const close = async (): Promise<void> => {
    await end(prepareToClose(app))
    sessions.close()
  }
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
  app.addHook('onClose', async () => {
    await begin()
    closings.get(app.server)?.undo()
    closings.delete(app.server)
    sessions.unwatch()
    unwatchWrongRequests()
  })
}

/**
 * What Fastify's own close lacks for downloads, called when it begins: those refused meanwhile are told when to come
 * back, and a connection whose download ends meanwhile does not stay open for Fastify's keep-alive time of 72 s.
 * @returns milliseconds since it began: contexts that each have the plugin are closed one after the other
 */
function prepareToClose(app: FastifyInstance): number {
  const closing = closings.get(app.server)
  if (closing !== undefined) return performance.now() - closing.began
  const server = app.server as Server & { keepAliveTimeoutBuffer?: number }
  const { keepAliveTimeout, keepAliveTimeoutBuffer } = server
  // Fastify answers 503 by itself from now on, before any hook runs, unless its `return503OnClosing` is false.
  const onRequest = (_request: IncomingMessage, response: ServerResponse): void => {
    onHead(response, (statusCode) => {
      if (statusCode === 503) response.setHeader('retry-after', retryAfter)
    })
  }
  Object.assign(server, { keepAliveTimeout: 1, keepAliveTimeoutBuffer: 0 })
  server.prependListener('request', onRequest)
  closings.set(server, {
    began: performance.now(),
    undo() {
      Object.assign(server, { keepAliveTimeout, keepAliveTimeoutBuffer })
      server.off('request', onRequest)
    }
  })
  return 0
}

/**
 * Before version 24, Node leaves idle sessions of HTTP/2 open when their server closes, which waits for them; later ones, those
 * whose TLS handshake lasts until then.
 */
function watchSessions(server: FastifyInstance['server']): {
  /** Closes the open ones, and those that still come, each when what runs in it has ended. */
  close(): void
  unwatch(): void
} {
  const sessions = new Map<Http2Session, Socket>()
  let isClosing = false
  const onSession = (session: Http2Session): void => {
    // Kept, as a session that is over has none.
    const socket = socketBelow(session) as Socket
    if (isClosing) closeSession(session, socket)
    sessions.set(session, socket)
    session.once('close', () => sessions.delete(session))
  }
  server.on('session', onSession)
  return {
    close() {
      isClosing = true
      for (const [session, socket] of sessions) closeSession(session, socket)
    },
    unwatch: () => void server.off('session', onSession)
  }
}

function closeSession(session: Http2Session, socket: Socket): void {
  // What runs in it may take its time. Of a session that is over, which has none, the client still has to close its side.
  destroyIfStuck(socket, () => session.state.outboundQueueSize !== 0)
  session.close()
}
