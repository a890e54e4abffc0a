import type { Server, ServerResponse } from 'node:http'
import type { Http2ServerResponse, ServerHttp2Stream } from 'node:http2'
import { Socket } from 'node:net'
import { attempt } from '../guard.ts'
import { isHttp2 } from './connection.ts'
import { transportBelow } from './sockets.ts'

type Method = (...args: unknown[]) => unknown

/**
 * Keeps the end of a reply for its body: what anybody else ends would be a part that looks like the whole.
 * @param isEnd whether an end is the body's own
 * @param onOthers called instead of an end that is not
 * @returns gives the reply back
 */
export function holdReply(
  raw: ServerResponse | Http2ServerResponse,
  isEnd: () => boolean,
  onOthers: (error: unknown) => void
): () => void {
  const isOthers = () => !isEnd()
  const releases = [take(raw, 'end', isOthers, onOthers)]
  if (isHttp2(raw)) {
    const { stream } = raw
    // Node calls them itself for a stream that its client has reset, and for all of a connection that has gone. What is written
    // may still wait for the client, to whom a stream that is destroyed without an error would look like a whole one.
    const isByOthers = () => !stream.writableFinished && !stream.closed && isConnected(stream)
    releases.push(take(stream, 'end', isOthers, onOthers))
    releases.push(take(stream, 'destroy', isByOthers, onOthers))
    // Without a code it sends first what is written.
    releases.push(take(stream, 'close', (code) => isByOthers() && !(isEnd() && !code), onOthers))
  }
  return () => {
    for (const release of releases) release()
  }
}

/** As `holdReply()`, for the connection below it on HTTP/1, and what is below that: a reset fails where either is ending. */
export function holdSocketEnd(
  socket: Socket,
  isEnd: () => boolean,
  onOthers: (error: unknown) => void
): () => void {
  const releases = [...new Set([socket, transportBelow(socket)])].map((owner) =>
    take(owner, 'end', () => !isEnd(), onOthers)
  )
  return () => {
    for (const release of releases) release()
  }
}

/** As `holdReply()`, for what destroys a reply of HTTP/1: once its connection has gone, that is no news. */
export function holdReplyDestroy(
  raw: ServerResponse | Http2ServerResponse,
  socket: Socket,
  isEnd: () => boolean,
  onOthers: (error: unknown) => void
): () => void {
  // The client of `inject()`, which has no socket of its own, ends its reply with this.
  const isByServer = () => !isEnd() && socket instanceof Socket && !socket.destroyed
  return take(raw, 'destroy', isByServer, onOthers)
}

const onWrongRequest = Symbol('fastify-csv-export.onWrongRequest')

type HeldSocket = Socket & { [onWrongRequest]?: ((error: unknown) => void) | undefined }

/**
 * Ahead of Fastify, which answers a wrong request, or one that takes too long, on a connection whatever is being sent there:
 * in the middle of a file, that HTTP/1.0 then takes for whole.
 * @returns takes that back
 */
export function watchWrongRequests(server: Server): () => void {
  const onClientError = (error: Error, socket: HeldSocket): void => socket[onWrongRequest]?.(error)
  server.prependListener('clientError', onClientError)
  return () => void server.off('clientError', onClientError)
}

/**
 * From now on a socket is reset by whoever destroys it, as a plain close is how HTTP/1.0 ends a whole body: the flag of
 * Node's own `resetAndDestroy()`. A UNIX socket cannot be reset.
 * @param onWrong called when the client sends what is no request
 * @returns takes that back
 */
export function holdConnection(socket: HeldSocket, onWrong: (error: unknown) => void): () => void {
  socket[onWrongRequest] = onWrong
  const release = resetWhenDestroyed(socket)
  // A reply is over before the one behind it takes the connection.
  return () => {
    socket[onWrongRequest] = undefined
    release()
  }
}

function resetWhenDestroyed(socket: Socket): () => void {
  const transport = transportBelow(socket) as {
    resetAndClosing?: boolean
    _handle?: { reset?: unknown } | null
  }
  if (typeof transport._handle?.reset !== 'function') return () => {}
  transport.resetAndClosing = true
  return () => {
    transport.resetAndClosing = false
  }
}

function take(
  owner: object,
  name: string,
  isOthers: (argument: unknown) => boolean,
  onOthers: (error: unknown) => void
): () => void {
  const methods = owner as Record<string, Method>
  const original = methods[name] as Method
  let isHeld = true
  const held: Method = (...args) => {
    if (!isHeld || !isOthers(args[0])) return original.apply(owner, args)
    onOthers(args[0])
    return name === 'destroy' ? original.apply(owner, args) : owner
  }
  methods[name] = held
  return () => {
    isHeld = false
    // What has wrapped it since would be lost.
    if (methods[name] === held) methods[name] = original
  }
}

function isConnected(stream: ServerHttp2Stream): boolean {
  // Node throws for the socket of a session that has none any more.
  return attempt(() => stream.session?.socket.destroyed) === false
}
