import { OutgoingMessage, type ServerResponse } from 'node:http'
import { constants, Http2ServerResponse, type Http2Session, type ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { attempt } from '../guard.ts'
import { bytesTaken, destroyIfStuck, transportBelow } from './sockets.ts'

const { get: isHeadSent } = Object.getOwnPropertyDescriptor(OutgoingMessage.prototype, 'headersSent') as {
  get(): boolean
}

/** Asked of its class: any package may give a reply of HTTP/1 a property with the name of one of these. */
export function isHttp2(raw: ServerResponse | Http2ServerResponse): raw is Http2ServerResponse {
  return raw instanceof Http2ServerResponse
}

/** What a reply is written to: on HTTP/2 a stream of its own, on HTTP/1 its connection, once it is its turn. */
export function transportOf(raw: ServerResponse | Http2ServerResponse): ServerHttp2Stream | Socket | null {
  return isHttp2(raw) ? raw.stream : raw.socket
}

/**
 * The connection of an HTTP/2 session, as long as it has one. What Node gives stands in its place, cannot be destroyed, and throws
 * for it once the session has none; the methods of it are the socket's own.
 */
export function socketBelow(session: Http2Session | undefined): Socket | null {
  return attempt(() => session?.socket.valueOf() as Socket | undefined) ?? null
}

/**
 * Whether the status line and the headers have gone, whoever has sent them. Node's own answer: `raw.headersSent` may be
 * another package's, as @fastify/express makes it.
 */
export function headHasGone(raw: ServerResponse | Http2ServerResponse): boolean {
  return isHttp2(raw) ? raw.stream.headersSent : isHeadSent.call(raw)
}

/**
 * How long the body is by a head that has gone, whoever has written it: a file would be cut there. Of HTTP/1, Node keeps what it
 * has written in a member of its own alone.
 */
export function declaredLength(raw: ServerResponse | Http2ServerResponse): number | undefined {
  const declared = isHttp2(raw)
    ? raw.stream.sentHeaders?.['content-length']
    : /\r\ncontent-length: *(\d+)/i.exec((raw as { _header?: string | null })._header ?? '')?.[1]
  return declared === undefined ? undefined : Number(declared)
}

/**
 * What `inject({ payloadAsStream: true })` gives to its reader. A member of light-my-request's own: the reply is told nothing
 * of a reader that leaves.
 */
export function injectedStream(raw: object): Readable | undefined {
  return (raw as { _lightMyRequest?: { stream?: Readable } })._lightMyRequest?.stream
}

/** Whether the client of a reply has yet to take something of it. */
export function hasUnsent(raw: ServerResponse | Http2ServerResponse): boolean {
  const length = isHttp2(raw) ? raw.stream.writableLength : raw.writableLength
  return length > 0 || (injectedStream(raw)?.readableLength ?? 0) > 0
}

/**
 * Ends a body that is not whole so that the client notices.
 * A plain close is how HTTP/1.0 and a proxy's HTTP/1.0 upstream end a body normally, so the TCP connection is reset;
 * on HTTP/2 the stream alone is, with INTERNAL_ERROR.
 */
export function breakConnection(raw: ServerResponse | Http2ServerResponse): void {
  if (isHttp2(raw)) {
    breakStream(raw.stream)
    return
  }
  // The client of `inject()` hears of it in the next turn: what is ended before that would be whole.
  if ('_lightMyRequest' in raw) Object.assign(raw, { end: () => raw })
  if (raw.socket !== null) reset(raw.socket)
  // A pipelined reply has no socket before those ahead of it have been sent, which then have to reach the client. Nothing of
  // it has gone, but Node would send what it has been given, be it destroyed or not.
  else raw.once('socket', (socket) => socket.destroySoon())
  raw.destroy()
}

function breakStream(stream: ServerHttp2Stream): void {
  const socket = socketBelow(stream.session)
  stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  if (socket !== null) destroyIfStuck(socket, () => true, hasTaken(socket, stream))
}

/** Whether the system has taken the end of a stream. One that is closed may still have it behind what its client does not take. */
function hasTaken(socket: Socket, stream: ServerHttp2Stream): () => boolean {
  let written: number | undefined
  return () => {
    if (stream.destroyed) written ??= socket.bytesWritten
    return written !== undefined && bytesTaken(socket) >= written
  }
}

function reset(socket: Socket): void {
  const transport = transportBelow(socket)
  try {
    // A TLS socket has no reset of its own, and its orderly close is how HTTP/1.0 ends a whole body.
    if (!isEnding(socket) && !isEnding(transport)) transport.resetAndDestroy()
  } catch {
    // A UNIX socket cannot be reset: on HTTP/1.1 the missing last chunk shows the break.
  }
}

/**
 * Whether its end is being given to the operating system: a reset fails then, and the socket stays open for good. Node ends the
 * connection of a client that has ended its own side, and the server's own code may end what is below TLS.
 */
function isEnding({ writableEnded, writableFinished, writableLength }: Socket): boolean {
  // Such a socket is met for less than a turn of the event loop, where a hook reads the body.
  /* c8 ignore next */
  return writableEnded && !writableFinished && writableLength === 0
}
