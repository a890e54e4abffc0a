import { AsyncResource } from 'node:async_hooks'
import { Readable, type Writable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import {
  breakConnection,
  declaredLength,
  hasUnsent,
  headHasGone,
  transportOf
} from '../connection/connection.ts'
import type { Encoder } from '../csv/encoder.ts'
import { CSV_EXPORT_BODY_DESTROYED, CSV_EXPORT_NOT_RETURNED, CSV_EXPORT_REPLY_SENT } from '../errors.ts'
import { isEndOfExport, logSafely, ofThisExport, toError } from '../guard.ts'
import type { ExportProgress } from '../receipts/record.ts'
import type { Destination, Transport } from '../stream/sender.ts'
import type { Source } from '../stream/source.ts'
import { takeBackCoding } from './content-coding.ts'
import { Ending } from './ending.ts'
import {
  addTrailers,
  dropLengthOfChunks,
  dropTrailers,
  isHandedOver,
  mediaTypeOf,
  prepareHead,
  sendHead,
  separateTrailerNames,
  setExportId,
  setStreamHeaders,
  takesBody
} from './headers.ts'
import { Pipes } from './pipes.ts'
import { PushBuffer } from './push-buffer.ts'
import type { Breakable, RunningExports } from './running.ts'
import { Transmission, type TransmissionOptions } from './transmission.ts'

export interface BodyOptions extends TransmissionOptions {
  /** Of a download. */
  filename?: string
  helper: 'csv' | 'streamText' | 'file'
  /** Whom the export is counted for. */
  key: string | undefined
}

const nobody: Transport = { writableNeedDrain: false, on() {}, off() {} }

const copyFailed = 'what a hook has piped a body into has failed: the reply goes on'

const brokenOff = 'a hook has sent what it had of a body that failed: the reply is broken off'

/**
 * The payload given to `reply.send()`: an ordinary Readable to whatever hook reads it. Piped into `reply.raw`, as Fastify
 * does, its chunks go there without the detour.
 */
export class StreamedBody<T> extends Readable implements Breakable {
  readonly #reply: FastifyReply
  readonly #options: BodyOptions
  readonly #running: RunningExports
  readonly #leave: () => void
  readonly #transmission: Transmission<T>
  readonly #ending: Ending
  /** Whether the reply is this body's, also where it is sent without one. */
  #isTaken = false
  /** Whether its bytes are wanted, though it may have to wait for its turn. */
  #isAsked = false
  #isOffered = false
  /** Whether an error is sent instead. */
  #isErrorTold = false
  /** Whether a hook, or who ends its stream, wants no more of it. */
  #isGivenUp = false
  /** Whether others have set a type without Fastify, which then does not say when it hands its own over. */
  readonly #hasOwnType: boolean
  /** The Content-Type of the reply, as it was to be, and when it ended too early. */
  readonly #ownType: unknown
  #type: unknown
  /** Whether it is itself what Fastify pipes into the reply. */
  #isDirect = false
  /** Whether the reply has to be ended by Fastify, behind trailers. */
  #hasTrailers = false
  readonly #pipes: Pipes
  /** Whether its chunks pass through it, to a hook that pipes it, iterates over it or listens to it. */
  #isReadByHook = false
  /** Whether its chunks go to `reply.raw` directly. */
  #isSentPast = false
  /** Why it ended, if that was too early. */
  #reason: Error | undefined
  /** Where the sender writes to, if a hook reads this stream. */
  readonly #buffer = new PushBuffer(this)

  constructor(
    reply: FastifyReply,
    source: Source<T>,
    encoder: Encoder<T>,
    options: BodyOptions,
    running: RunningExports
  ) {
    // `wrap()` takes 'close' for a reason to drop what it has not given out yet.
    super({ autoDestroy: false })
    this.#reply = reply
    this.#hasOwnType = isHandedOver(reply.raw)
    this.#ownType = reply.getHeader('content-type')
    this.#pipes = new Pipes(this, reply.raw, {
      onFailed: (error) => this.fail(ofThisExport(error)),
      onCopyFailed: (err) => logSafely(reply.log, 'warn', { err, export: { id: options.id } }, copyFailed),
      onLate: this.#sendError
    })
    this.#options = options
    this.#running = running
    this.#leave = running.add(this, options.key)
    const hasTrailers =
      takesBody(this.#reply) && options.length === undefined && addTrailers(reply, () => this.#trailers())
    this.#transmission = new Transmission(reply, source, encoder, options, hasTrailers, this.fail)
    this.on('error', () => {})
    this.#ending = new Ending(reply, this.#onEnd)
    this.#ending.endIfClosed()
  }

  override pipe<W extends NodeJS.WritableStream>(destination: W, { end = true }: { end?: boolean } = {}): W {
    const { raw } = this.#reply
    const isDirect = destination === (raw as unknown)
    if (!isDirect) this.#pipes.add(destination as unknown as Writable, end)
    if (this.#isSentPast) {
      this.#pipes.fail(this.#refuseLateReader())
      return destination
    }
    this.#isTaken = true
    if (this.#ending.isOver || !takesBody(this.#reply)) {
      this.#ending.end()
      dropTrailers(raw)
      if (!isDirect) this.#refuseReader()
      // One that failed while a hook made it wait gets an error reply from Fastify, which watches this stream or a stage.
      if (this.errored !== null) {
        if (!isDirect) this.#pipes.fail(this.errored)
      } else if (!this.#isErrorTold) {
        this.#finish()
        if (end) destination.end()
      }
      return destination
    }
    // Of what a hook makes of the body, nobody knows the length.
    prepareHead(this.#reply, isDirect ? this.#options.length : undefined)
    this.#ending.hold()
    if (!isDirect) {
      this.#isReadByHook = true
      return super.pipe(destination, { end })
    }
    this.#isDirect = true
    this.#hasTrailers = !end
    this.#pipes.sendBody()
    // A hook reads too: each gets everything, unless it has begun, as the client would lack what it has got.
    if (this.readableDidRead) this.fail(new CSV_EXPORT_BODY_DESTROYED())
    else if (this.readableFlowing !== null || this.#isAsked) super.pipe(destination, { end })
    else this.#sendTo(destination, end)
    return destination
  }

  #sendTo(destination: NodeJS.WritableStream, end: boolean): void {
    this.#isSentPast = true
    this.#send(destination as unknown as Destination, this.#transmission.coded(), () => {
      this.#setWritten()
      // Emits 'end' and 'close', for which Fastify waits. The reply itself ends when its last byte has gone.
      this.#finish()
      if (end) destination.end()
    })
  }

  #setWritten(): void {
    // Fastify, which sends trailers, would send the head of an empty body in a callback that nobody guards, or never.
    if (this.#hasTrailers) sendHead(this.#reply.raw)
    this.#ending.setWritten()
  }

  override _read(): void {
    if (!this.#isReadByHook && !takesBody(this.#reply)) this.#ending.end()
    if (this.#ending.isOver) {
      this.#refuseReader()
      return
    }
    this.#buffer.emptied()
    if (this.#isSentPast) this.#refuseLateReader()
    if (this.#isAsked) return
    this.#isReadByHook = true
    this.#ending.hold()
    this.#send(this.#buffer, this.#transmission.chunks, () => {
      this.#setWritten()
      this.push(null)
    })
  }

  /** Fastify drains the payload of a HEAD or 204 reply with this. Nothing was started, so there is nothing to drain. */
  override resume(): this {
    this.#isTaken = true
    if (takesBody(this.#reply)) return super.resume()
    this.#ending.end()
    return this
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    // The end of the error reply: Fastify would log a stream that closes without an end, and destroy the reply.
    if (this.#isErrorTold && this.#ending.isOver && error === null && !this.#isReadByHook) {
      this.push(null)
      callback()
      return
    }
    let reason = error
    if (!this.#ending.isWritten) {
      this.#ending.endIfClosed()
      this.#isGivenUp = !this.#ending.isOver
      if (this.#transmission.isStarted)
        this.fail(error === null ? new CSV_EXPORT_BODY_DESTROYED() : ofThisExport(error))
      this.#ending.end()
      // If it is sent all the same, it is no empty file.
      reason = error ?? this.#reason ?? new CSV_EXPORT_BODY_DESTROYED()
    }
    if (reason !== null && !this.readableEnded) this.#pipes.fail(reason)
    callback(reason)
  }

  get isOver(): boolean {
    return this.#ending.isOver
  }

  get progress(): ExportProgress | undefined {
    return this.#transmission.progress
  }

  readonly fail = (reason: unknown): void => {
    if (this.#ending.isOver) return
    const error = toError(reason)
    if (this.#ending.break(error)) return
    // Fastify makes an error reply of it, as of any stream that fails before its first byte.
    if (!this.#isReadByHook || this.#isDirect) this.destroy(error)
    // What it watches instead may be fed in a way that nobody sees.
    else if (this.#isHandedOn) this.#sendError(error)
  }

  readonly #sendError = (error: Error): void => {
    setImmediate(() => this.#isErrorTold || headHasGone(this.#reply.raw) || this.#reply.send(error))
  }

  /** Whether Fastify has what it sends. A hook that is still at work may give something else. */
  get #isHandedOn(): boolean {
    const { raw } = this.#reply
    return this.#pipes.isSent || headHasGone(raw) || (!this.#hasOwnType && isHandedOver(raw))
  }

  /**
   * Called each time that something is sent as the reply. Once the body runs, that is a mistake, such as an async handler
   * that does not return it.
   */
  admitReply(): Error | undefined {
    const isFirst = !this.#isOffered
    this.#isOffered = true
    // As who injects ends it with an error, of which Fastify makes a reply before it is told.
    if (!isFirst) this.#ending.endIfClosed()
    if (isFirst || this.#ending.isOver) return undefined
    const refusal = new CSV_EXPORT_NOT_RETURNED(this.#options.helper)
    if (headHasGone(this.#reply.raw)) this.fail(refusal)
    return refusal
  }

  /** Fastify replies with an error now, be it this body's own or not. */
  endForError(error: unknown): void {
    this.#isErrorTold = true
    this.#ending.endIfClosed()
    if (!headHasGone(this.#reply.raw)) this.#ending.end(toError(ofThisExport(error)), true)
  }

  /** Called just before the head is written, whatever is sent: ours are the last resort. */
  completeHead(statusCode: number): void {
    const { isStarted } = this.#transmission
    if (
      this.#isCutOff &&
      !this.#isErrorTold &&
      takesBody(this.#reply) &&
      this.#isLike(this.#type, statusCode)
    ) {
      this.#breakOff()
      return
    }
    // HTTP/2 ends a reply that has no body with its head.
    if (this.#isReadByHook && this.#isUnderWay && [204, 304].includes(statusCode)) this.#ending.letGo()
    // Each that is sent has a receipt.
    setExportId(this.#reply, isStarted ? this.#options.id : undefined)
    takeBackCoding(this.#reply)
    if (this.#options.length === undefined) dropLengthOfChunks(this.#reply)
    separateTrailerNames(this.#reply.raw)
    if ((isStarted || this.#isTaken) && !this.#isErrorTold) setStreamHeaders(this.#reply, this.#options)
  }

  /**
   * A hook that has caught what ended the body comes with a part of it, and would say that it is the whole. Before the head has
   * gone, as HTTP/2 sends that of an empty body with its end.
   */
  #breakOff(): void {
    const { id } = this.#options
    logSafely(this.#reply.log, 'error', { err: this.#reason, export: { id } }, brokenOff)
    breakConnection(this.#reply.raw)
  }

  /** A head that somebody else has written, or has set a length of, would cut the body there. */
  checkHead(): void {
    const { raw } = this.#reply
    if (!headHasGone(raw) || !takesBody(this.#reply) || !this.#isUnderWay) return
    const declared = declaredLength(raw)
    if (declared === undefined || declared === this.#options.length) return
    // A hook that keeps what it reads, and says in a reply of its own that it does.
    if (this.#isReadByHook && !this.#isLike(this.#ownType, raw.statusCode)) this.#ending.letGo()
    else if (this.#transmission.isStarted) this.fail(new CSV_EXPORT_REPLY_SENT(this.#options.helper))
  }

  /** Whether it has more to give, and nothing else is sent in its place. */
  get #isUnderWay(): boolean {
    return !this.#isErrorTold && !this.#ending.isOver && !this.#ending.isWritten
  }

  #send(destination: Destination, chunks: AsyncIterable<Uint8Array>, onSent: () => void): void {
    this.#isAsked = true
    const { raw } = this.#reply
    // Of a reply that has been sent already, with something else, it may have none any more.
    const transport = this.#ending.isLetGo ? nobody : transportOf(raw)
    // A pipelined reply has to wait for those ahead of it, for which neither the source nor the client can be blamed.
    if (transport !== null) this.#start(transport, destination, chunks, onSent)
    else {
      // That happens in the context of the reply ahead.
      const start = AsyncResource.bind((socket: Transport) => {
        if (!this.#ending.isOver) this.#start(socket, destination, chunks, onSent)
      })
      raw.once('socket', start)
    }
  }

  #start(
    transport: Transport,
    destination: Destination,
    chunks: AsyncIterable<Uint8Array>,
    onSent: () => void
  ): void {
    const { raw } = this.#reply
    this.#transmission.start({
      transport,
      destination,
      chunks,
      // What a hook or a trailer takes its time for is not there to be sent.
      isClientAsked: () => (destination !== this.#buffer && !this.#ending.isWritten) || hasUnsent(raw),
      onSent: () => this.#ending.isOver || this.#ending.isWritten || onSent()
    })
    // It may have gone before.
    this.checkHead()
  }

  /** The one way to end. With a reason, the source has more to give, or failed: it is told and let go. */
  readonly #onEnd = (reason: Error | undefined, isErrorNext: boolean): void => {
    this.#leave()
    this.#transmission.stop(reason, this.#ending.isWritten)
    if (reason === undefined) this.#finish()
    else this.#cutOff(reason, isErrorNext)
    const told = this.#transmission.tell(reason)
    if (told !== undefined) this.#running.track(told)
  }

  /** Whether it has begun, and ended too early, and not because a hook wants something else in its place. */
  get #isCutOff(): boolean {
    return this.#transmission.isStarted && this.#reason !== undefined && !this.#isGivenUp
  }

  /** Whether a head is one of what this body is. */
  #isLike(type: unknown, statusCode: number): boolean {
    const said = mediaTypeOf(this.#reply.getHeader('content-type'))
    return statusCode < 300 && (said === undefined || said === mediaTypeOf(type))
  }

  /** What else reads this stream must not take a part for the whole. */
  #cutOff(reason: Error, isErrorNext: boolean): void {
    this.#reason = reason
    this.#type = this.#reply.getHeader('content-type')
    // Its pipe, where a hook reads too, would end the reply as if it were whole.
    this.unpipe(this.#reply.raw)
    // Fastify would take its end, where there were trailers, for that of the error reply, and an error for another one.
    if (isErrorNext && this.#isDirect) return
    if (this.#isReadByHook) this.#failReaders(reason)
    // Which would log an error once more.
    else if (this.#isDirect) this.#finish()
    // Something else has been sent.
    else if (this.#reply.raw.writableEnded) this.destroy(reason)
  }

  /**
   * A stream that a hook makes of it by iterating over it, and pipes on, has no listener to 'error', and would end the process. So
   * nobody but pipes is told of what neither the source nor a limit has ended, once Fastify has closed what the hook gave it.
   */
  #failReaders(reason: Error): void {
    const isTold = !isEndOfExport(reason) || !this.#isHandedOn || this.#isDirect || this.#pipes.hasListener
    if (isTold) this.destroy(reason)
    else {
      this.pause()
      this.#pipes.fail(reason)
    }
  }

  /** Who comes when it is over must not take nothing for the whole either. */
  #refuseReader(): void {
    if (this.#reason !== undefined) this.destroy(this.#reason)
  }

  /** What is sent past it lacks nothing to the client, but would be missing here: an empty file that looks whole. */
  #refuseLateReader(): Error {
    this.#isReadByHook = true
    const refusal = this.#reason ?? new CSV_EXPORT_BODY_DESTROYED()
    if (!this.#ending.isWritten) this.fail(refusal)
    return refusal
  }

  #finish(): void {
    this.push(null)
    super.resume()
  }

  #trailers() {
    if (!this.#ending.isWritten) return { 'export-rows': undefined, 'repr-digest': undefined }
    // A hook in between has made another representation of it: https://www.rfc-editor.org/rfc/rfc9530#section-3
    const digest = this.#isDirect ? this.#transmission.sentDigest : undefined
    return {
      'export-rows': String(this.#transmission.rows),
      'repr-digest': digest === undefined ? undefined : `sha-256=:${digest}:`
    }
  }
}
