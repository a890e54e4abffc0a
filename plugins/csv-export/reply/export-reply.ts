import { AsyncResource } from 'node:async_hooks'
import type { FastifyReply } from 'fastify'
import {
  breakConnection,
  declaredLength,
  hasUnsent,
  headHasGone,
  transportOf
} from '../connection/connection.ts'
import type { Encoder } from '../csv/encoder.ts'
import { CSV_EXPORT_NOT_RETURNED, CSV_EXPORT_REPLACED, CSV_EXPORT_REPLY_SENT } from '../errors.ts'
import { attempt, type LogLevel, logSafely, ofThisExport, toError } from '../guard.ts'
import type { ExportProgress } from '../receipts/record.ts'
import type { Destination, Transport } from '../stream/sender.ts'
import type { Source } from '../stream/source.ts'
import { type BodyOwner, StreamedBody } from './body.ts'
import { takeBackCoding } from './content-coding.ts'
import { Ending } from './ending.ts'
import {
  addTrailers,
  dropLengthOfChunks,
  mediaTypeOf,
  sendHead,
  separateTrailerNames,
  setExportId,
  setStreamHeaders,
  takeBackTrailers,
  takesBody
} from './headers.ts'
import type { Breakable, RunningExports } from './running.ts'
import { Transmission, type TransmissionOptions } from './transmission.ts'

export interface ReplyOptions extends TransmissionOptions {
  /** Of a download. */
  filename?: string
  helper: 'csv' | 'streamText' | 'file'
  /** Whom the export is counted for. */
  key: string | undefined
}

const copyFailed = 'what a hook has piped a body into has failed'

const notBegun = 'the reply is broken off before its body has begun'

const brokenOff = 'a hook has sent what it had of a body that failed: the reply is broken off'

/** An export that is sent as a reply: its body, its head, its trailers, and its end, of which is told once. */
export class ExportReply<T> implements Breakable, BodyOwner {
  readonly reply: FastifyReply
  /** The payload for `reply.send()`. */
  readonly body: StreamedBody
  readonly #options: ReplyOptions
  readonly #running: RunningExports
  readonly #leave: () => void
  readonly #transmission: Transmission<T>
  readonly #ending: Ending
  #isOffered = false
  #isErrorTold = false
  #reason: Error | undefined
  /** The Content-Type of the reply, when it ended too early. */
  #type: unknown

  constructor(
    reply: FastifyReply,
    source: Source<T>,
    encoder: Encoder<T>,
    options: ReplyOptions,
    running: RunningExports
  ) {
    this.reply = reply
    this.#options = options
    this.#running = running
    this.#leave = running.add(this, options.key)
    const hasTrailers =
      takesBody(reply) && options.length === undefined && addTrailers(reply, () => this.#trailers())
    this.#transmission = new Transmission(reply, source, encoder, options, hasTrailers, this.fail)
    this.body = new StreamedBody(this)
    this.#ending = new Ending(reply, this.#onEnd)
    this.#ending.endIfClosed()
  }

  get length(): number | undefined {
    return this.#options.length
  }

  get isStarted(): boolean {
    return this.#transmission.isStarted
  }

  get isWritten(): boolean {
    return this.#ending.isWritten
  }

  get isOver(): boolean {
    return this.#ending.isOver
  }

  get reason(): Error | undefined {
    return this.#reason
  }

  get isErrorTold(): boolean {
    return this.#isErrorTold
  }

  get progress(): ExportProgress | undefined {
    return this.#transmission.progress
  }

  hold(): void {
    this.#ending.hold()
  }

  endIfClosed(): void {
    this.#ending.endIfClosed()
  }

  end(): void {
    this.#ending.end()
  }

  readonly fail = (reason: unknown): void => {
    if (this.isOver) return
    const error = toError(reason)
    if (this.#ending.break(error)) return
    const { isReadByHook, isDirect, isHandedOn, readableEnded } = this.body
    // Fastify makes an error reply of it, as of any stream that fails before its first byte.
    if ((!isReadByHook || isDirect) && !readableEnded) this.body.destroy(error)
    // It has seen the end of it, or what it watches instead may be fed in a way that nobody sees.
    else if (isHandedOn) this.sendError(error)
  }

  readonly sendError = (error: Error): void => {
    setImmediate(() => {
      // Fastify throws while it calls the hooks for one of its own.
      if (!this.#isErrorTold && !headHasGone(this.reply.raw)) attempt(() => this.reply.send(error))
    })
  }

  readonly tellOfCopy = (err: Error): void => {
    this.#log('warn', err, copyFailed)
  }

  #log(level: LogLevel, err: unknown, message: string): void {
    logSafely(this.reply.log, level, { err, export: { id: this.#options.id } }, message)
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
    if (isFirst || this.isOver) return undefined
    const refusal = new CSV_EXPORT_NOT_RETURNED(this.#options.helper)
    if (headHasGone(this.reply.raw)) this.fail(refusal)
    return refusal
  }

  /** Fastify replies with an error now, be it this body's own or not. */
  endForError(error: unknown): void {
    this.#isErrorTold = true
    this.#ending.endIfClosed()
    if (!headHasGone(this.reply.raw)) this.#ending.end(toError(ofThisExport(error)), true)
  }

  /** Called just before the head is written, whatever is sent: ours are the last resort. */
  completeHead(statusCode: number): void {
    const { isStarted } = this
    if (this.#isCutOff && !this.#isErrorTold && takesBody(this.reply) && this.#looksWhole(statusCode)) {
      this.#breakOff()
      return
    }
    // Each that is sent has a receipt.
    setExportId(this.reply, isStarted ? this.#options.id : undefined)
    takeBackCoding(this.reply)
    if (this.#options.length === undefined) dropLengthOfChunks(this.reply)
    if (statusCode === 204 || statusCode === 304) takeBackTrailers(this.reply)
    else separateTrailerNames(this.reply)
    if ((isStarted || this.body.isTaken) && !this.#isErrorTold) setStreamHeaders(this.reply, this.#options)
  }

  /**
   * A hook that has caught what ended the body comes with a part of it, and would say that it is the whole. Before the head has
   * gone, as HTTP/2 sends that of an empty body with its end.
   */
  #breakOff(): void {
    this.#log('error', this.#reason, brokenOff)
    breakConnection(this.reply.raw)
  }

  /** A head that somebody else has written, or has set a length of, would cut the body there. */
  checkHead(): void {
    const { raw } = this.reply
    if (!headHasGone(raw) || !takesBody(this.reply) || !this.#isUnderWay) return
    const declared = declaredLength(raw)
    if (declared === undefined || declared === this.#options.length) return
    const { helper } = this.#options
    if (this.body.isReadByHook) this.fail(new CSV_EXPORT_REPLACED(helper))
    else if (this.isStarted) this.fail(new CSV_EXPORT_REPLY_SENT(helper))
  }

  /** Whether it has more to give, and nothing else is sent in its place. */
  get #isUnderWay(): boolean {
    return !this.#isErrorTold && !this.isOver && !this.isWritten
  }

  send(destination: Destination, isCoded: boolean, onSent: () => void): void {
    const { raw } = this.reply
    const send = (transport: Transport) => this.#send(transport, destination, isCoded, onSent)
    const transport = transportOf(raw)
    if (transport !== null) {
      send(transport)
      return
    }
    // A pipelined reply has to wait for those ahead of it, for which neither the source nor the client can be blamed. Their context
    // is that of the event.
    const sendInTurn = AsyncResource.bind((socket: Transport) => this.isOver || send(socket))
    raw.once('socket', sendInTurn)
  }

  #send(transport: Transport, destination: Destination, isCoded: boolean, onSent: () => void): void {
    const { raw } = this.reply
    this.#transmission.start({
      transport,
      destination,
      chunks: isCoded ? this.#transmission.coded() : this.#transmission.chunks,
      // What a hook or a trailer takes its time for is not there to be sent.
      isClientAsked: () => (isCoded && !this.isWritten) || hasUnsent(raw),
      onSent: () => {
        if (this.isOver || this.isWritten) return
        // Fastify, which sends trailers, would send the head of an empty body in a callback that nobody guards, or never.
        if (this.body.hasTrailers) sendHead(raw)
        this.#ending.setWritten()
        onSent()
      }
    })
    // It may have gone before.
    this.checkHead()
  }

  /** The one way to end. With a reason, the source has more to give, or failed: it is told and let go. */
  readonly #onEnd = (reason: Error | undefined, isErrorNext: boolean): void => {
    this.#leave()
    this.#transmission.stop(reason, this.isWritten)
    if (reason === undefined) this.body.finish()
    else {
      this.#reason = reason
      this.#type = this.reply.getHeader('content-type')
      this.body.cutOff(reason, isErrorNext)
    }
    const told = this.#transmission.tell(reason)
    if (told !== undefined) this.#running.track(told)
    // Nobody else tells of it.
    else if (reason !== undefined && !isErrorNext && this.body.isReadByHook)
      this.#log('error', reason, notBegun)
  }

  /** Whether it has begun, and ended too early, and not because a hook wants something else in its place. */
  get #isCutOff(): boolean {
    return this.isStarted && this.#reason !== undefined && !this.body.isGivenUp
  }

  /** Whether the head says that what is sent is this body, as far as it was sent. */
  #looksWhole(statusCode: number): boolean {
    const type = mediaTypeOf(this.reply.getHeader('content-type'))
    return statusCode < 300 && (type === undefined || type === mediaTypeOf(this.#type))
  }

  #trailers() {
    if (!this.isWritten) return { 'export-rows': undefined, 'repr-digest': undefined }
    // A hook in between has made another representation of it: https://www.rfc-editor.org/rfc/rfc9530#section-3
    const digest = this.body.isDirect ? this.#transmission.sentDigest : undefined
    return {
      'export-rows': String(this.#transmission.rows),
      'repr-digest': digest === undefined ? undefined : `sha-256=:${digest}:`
    }
  }
}
