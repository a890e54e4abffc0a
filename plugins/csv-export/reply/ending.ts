import { AsyncResource } from 'node:async_hooks'
import type { Http2Stream } from 'node:http2'
import { Socket } from 'node:net'
import type { FastifyReply } from 'fastify'
import {
  breakConnection,
  headHasGone,
  injectedStream,
  isHttp2,
  socketBelow
} from '../connection/connection.ts'
import { holdConnection, holdReply, holdReplyDestroy, holdSocketEnd } from '../connection/hold.ts'
import { silenceOf } from '../connection/sockets.ts'
import { CSV_EXPORT_BODY_DESTROYED, CSV_EXPORT_CLIENT_GONE, CSV_EXPORT_CLIENT_STALLED } from '../errors.ts'
import { attempt, guarded, ofThisExport } from '../guard.ts'
import { prepareErrorReply } from './headers.ts'

/**
 * How a reply ends, whoever ends it: its client, its server, its source, a limit. Told once, with the reason, or with none
 * if all of it has gone. What is called then runs in the async context of the request.
 */
export class Ending {
  readonly #reply: FastifyReply
  readonly #onEnd: (reason: Error | undefined, isErrorNext: boolean) => void
  readonly #context = new AsyncResource('fastify-csv-export')
  readonly #http2Stream: Http2Stream | undefined
  /** Kept, as a response loses it when it closes, and a session of HTTP/2 when that does. */
  #socket: Socket | null = null
  readonly #releases: (() => void)[] = []
  #isHeld = false
  #isWritten = false
  #isOver = false

  constructor(reply: FastifyReply, onEnd: (reason: Error | undefined, isErrorNext: boolean) => void) {
    this.#reply = reply
    this.#onEnd = onEnd
    const { raw, request } = reply
    this.#http2Stream = isHttp2(raw) ? raw.stream : undefined
    // A hook may drop the payload without a word; the end of the reply is then the only sign of it.
    // Ahead of Node, which gives the socket to the next reply of the connection then.
    raw.on('close', this.#onClose).prependListener('finish', this.#onFinish)
    // A stream that its client resets without an error says nothing else while writes wait.
    this.#http2Stream?.on('aborted', this.#onClose)
    injectedStream(raw)?.on('close', this.#onClientLeft)
    if (isHttp2(raw)) this.#socket = socketBelow(raw.stream.session)
    else if (raw.socket !== null) this.#takeSocket(raw.socket)
    // A pipelined reply has none before those ahead of it have been sent.
    else raw.once('socket', this.#takeSocket)
    if (request.routeOptions.handlerTimeout) request.signal.addEventListener('abort', this.#onHandlerTimeout)
  }

  /** From now on only the body itself ends the reply, once it is written. */
  hold(): void {
    if (this.#isHeld) return
    this.#isHeld = true
    const onOthers = (error: unknown) => {
      // Node ends all of a connection of HTTP/2 for what its client has sent.
      if (this.#http2Stream?.session?.destroyed) this.#onWrong(error)
      else this.#onEndedByOthers(error)
    }
    this.#releases.push(holdReply(this.#reply.raw, () => this.#isWritten, onOthers))
    if (this.#socket !== null && this.#http2Stream === undefined) this.#holdSocketEnd(this.#socket)
  }

  #holdSocketEnd(socket: Socket): void {
    this.#releases.push(holdSocketEnd(socket, () => this.#reply.raw.writableEnded, this.#onEndedByOthers))
  }

  get isOver(): boolean {
    return this.#isOver
  }

  /** All has been written, if not sent yet. */
  setWritten(): void {
    this.#isWritten = true
  }

  get isWritten(): boolean {
    return this.#isWritten
  }

  /**
   * Ends it for a reason, or without one. Breaks nothing.
   * @param isErrorNext whether an error reply is sent instead
   */
  end(reason?: Error, isErrorNext = false): void {
    if (this.#isOver) return
    this.#isOver = true
    // First, as what follows belongs to others too.
    this.#context.runInAsyncScope(this.#onEnd, null, reason, isErrorNext)
    for (const release of this.#releases) release()
    const { raw, request } = this.#reply
    raw.off('close', this.#onClose).off('finish', this.#onFinish).off('socket', this.#takeSocket)
    this.#http2Stream?.off('aborted', this.#onClose)
    injectedStream(raw)?.off('close', this.#onClientLeft)
    this.#socket?.off('end', this.#onHalfClose)
    if (request.routeOptions.handlerTimeout) {
      request.signal.removeEventListener('abort', this.#onHandlerTimeout)
    }
  }

  /** Ends it if what it is sent through has been closed. */
  endIfClosed(): void {
    if (this.#isClosed) this.end(this.#reasonOfClose())
  }

  /**
   * Ends it so that the client notices, unless all of it has gone.
   * @returns whether it could: before the head has gone, an error reply has to say it
   */
  break(reason: Error): boolean {
    // Fastify sends none for a reply that was hijacked meanwhile.
    const isBroken = headHasGone(this.#reply.raw) || this.#reply.sent
    if (this.#isAllGone) attempt(() => this.end())
    else {
      attempt(() => this.end(reason, !isBroken))
      if (isBroken) attempt(() => breakConnection(this.#reply.raw))
    }
    return isBroken
  }

  /** Asked of the connection too, as others are told of its end before the response is. */
  get #isClosed(): boolean {
    const { raw } = this.#reply
    if (isHttp2(raw)) return raw.stream.destroyed || raw.stream.aborted
    return raw.destroyed || this.#socket?.destroyed === true
  }

  /** In the turn in which that happens, 'finish' is still to come. */
  get #isAllGone(): boolean {
    if (!this.#isWritten || this.#isClosed) return false
    const { writableEnded, writableLength } = this.#reply.raw
    return this.#http2Stream?.writableFinished ?? (writableEnded && writableLength === 0)
  }

  /** For all that Node calls. What the rest throws, of which the reply knows no better, ends it. */
  #guarded(callback: () => void): () => void {
    return guarded(callback, (thrown) => this.end(thrown as Error))
  }

  /** Ahead of Fastify, which then closes the connection in a way that HTTP/1.0 takes for the end, or replies itself. */
  readonly #onHandlerTimeout = this.#guarded(() => {
    const { reason } = this.#reply.request.signal
    if (reason?.code !== 'FST_ERR_HANDLER_TIMEOUT' || this.break(reason)) return
    prepareErrorReply(this.#reply, reason)
  })

  readonly #takeSocket = (socket: Socket): void => {
    this.#socket = socket
    socket.prependListener('end', this.#onHalfClose)
    this.#releases.push(
      holdConnection(socket, this.#onWrong),
      holdReplyDestroy(this.#reply.raw, socket, () => this.#isWritten, this.#onEndedByOthers)
    )
    if (this.#isHeld) this.#holdSocketEnd(socket)
  }

  /** Before the head has gone too: with none, or with theirs, it would be no reply, or look like a whole one. */
  readonly #onEndedByOthers = (error: unknown): void => this.#breakOff(ofThisExport(error))

  #breakOff(error: unknown): void {
    attempt(() => this.end(error instanceof Error ? error : new CSV_EXPORT_BODY_DESTROYED()))
    attempt(() => breakConnection(this.#reply.raw))
  }

  /** An error of the connection: the server's own code may have destroyed it with that. */
  readonly #onWrong = (error: unknown): void => {
    if (isOfClient(error)) this.#breakOff(new CSV_EXPORT_CLIENT_GONE())
    else this.#onEndedByOthers(error)
  }

  /** Ahead of Node, which ends its own side when a client ends its: to HTTP/1.0 the end of a whole body. */
  readonly #onHalfClose = this.#guarded(() => {
    const { httpAllowHalfOpen } = this.#reply.server.server as { httpAllowHalfOpen?: boolean }
    // A server of TLS has an option of its own for it.
    const isHalfOpen = httpAllowHalfOpen && this.#socket?.allowHalfOpen
    if (!this.#reply.raw.writableEnded && !isHalfOpen) this.#onClientLeft()
  })

  readonly #onClientLeft = this.#guarded(() => {
    this.end(new CSV_EXPORT_CLIENT_GONE())
    breakConnection(this.#reply.raw)
  })

  /**
   * An aborted reply says it too: on HTTP/2, where only the stream knows whether all is written, and of Node before
   * version 24, once its socket has failed with some of it.
   */
  readonly #onFinish = this.#guarded(() =>
    this.#onReplyEnd(this.#http2Stream?.writableFinished ?? !this.#socket?.destroyed)
  )

  readonly #onClose = this.#guarded(() => {
    this.#onReplyEnd(false)
    // Of a pipelined reply, Node leaves it to others, and Fastify would send another one.
    breakConnection(this.#reply.raw)
  })

  #onReplyEnd(isAllSent: boolean): void {
    this.end(this.#isWritten && isAllSent ? undefined : this.#reasonOfClose())
  }

  #reasonOfClose(): Error {
    const { raw, request } = this.#reply
    // A hook may have put something else in its place.
    const isItsOwn = this.#isWritten || !raw.writableEnded
    // Of the request, as a pipelined reply may have none yet.
    const isByClient =
      isItsOwn &&
      (isHttp2(raw) ? isResetByClient(raw.stream, this.#socket) : isClosedByClient(request.raw.socket))
    if (isByClient) return new CSV_EXPORT_CLIENT_GONE()
    // What waited for its client may have been another stream of the connection.
    const silence = this.#socket === null ? undefined : silenceOf(this.#socket)
    return silence === undefined ? new CSV_EXPORT_BODY_DESTROYED() : new CSV_EXPORT_CLIENT_STALLED(silence)
  }
}

/** Nobody else closes one without an error, as what the server calls comes through `hold()`, but for its own connection. */
function isResetByClient({ errored }: Http2Stream, socket: Socket | null): boolean {
  if (errored !== null) return isOfClient(errored)
  return !socket?.destroyed || isClosedByClient(socket)
}

function isClosedByClient(socket: Socket): boolean {
  return !(socket instanceof Socket) || socket.readableEnded || isOfClient(socket.errored)
}

/**
 * An error of the network, or of what the client has sent, or not in time. A write that waits is cancelled by whoever
 * closes the socket on this side, below TLS a later one fails, and an error of another connection, as to a database, is the
 * server's.
 */
function isOfClient(error: unknown): boolean {
  const { code, syscall = 'read' } = (error ?? {}) as { code?: unknown; syscall?: unknown }
  return (
    typeof code === 'string' &&
    !['ECANCELED', 'EBADF'].includes(code) &&
    ['read', 'write', 'shutdown'].includes(String(syscall)) &&
    /^(E[A-Z]+$|HPE_|ERR_SSL_|ERR_TLS_|ERR_HTTP_REQUEST_TIMEOUT$|ERR_HTTP2_)/.test(code)
  )
}
