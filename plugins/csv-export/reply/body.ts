import { AsyncResource } from 'node:async_hooks'
import { Readable, type Writable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { headHasGone, transportOf } from '../connection/connection.ts'
import { CSV_EXPORT_BODY_DESTROYED } from '../errors.ts'
import { guarded, isEndOfExport, ofThisExport } from '../guard.ts'
import type { Destination } from '../stream/sender.ts'
import { dropTrailers, isHandedOver, prepareHead, takesBody } from './headers.ts'
import { Pipes } from './pipes.ts'
import { PushBuffer } from './push-buffer.ts'

/** What a body asks of the export that it is the payload of. */
export interface BodyOwner {
  readonly reply: FastifyReply
  /** Bytes, where that is known before. */
  readonly length: number | undefined
  /** Whether its source has been asked. */
  readonly isStarted: boolean
  /** Whether all has been given to where it is sent. */
  readonly isWritten: boolean
  readonly isOver: boolean
  /** Why it is over, if that was too early. */
  readonly reason: Error | undefined
  /** Whether an error is sent instead. */
  readonly isErrorTold: boolean
  /** From now on only the body ends the reply. */
  hold(): void
  /** Sends its bytes, coded for the client or as they are. */
  send(destination: Destination, isCoded: boolean, onSent: () => void): void
  /** Ends it so that whoever takes it notices. */
  fail(reason: unknown): void
  /** Has Fastify make an error reply of it, unless one is made. */
  sendError(error: Error): void
  /** Tells that what takes a copy has failed. */
  tellOfCopy(error: Error): void
  /** Ends it, if what it is sent through has been closed. */
  endIfClosed(): void
  /** Ends it, without a reason. */
  end(): void
}

/** Milliseconds for which readers are not told of a body that is not sent, while its reply has yet to close. */
const patience = 1_000

/**
 * The payload given to `reply.send()`: an ordinary Readable to whatever hook reads it. Piped into `reply.raw`, as Fastify
 * does, its chunks go there without the detour.
 */
export class StreamedBody extends Readable {
  readonly #owner: BodyOwner
  readonly #raw: FastifyReply['raw']
  /** Whether others have set a type without Fastify, which then does not say when it hands its own over. */
  readonly #hasOwnType: boolean
  readonly #pipes: Pipes
  /** Where the sender writes to, if a hook reads this stream. */
  readonly #buffer = new PushBuffer(this)
  /** Whether its bytes are wanted, though it may have to wait for its turn. */
  #isAsked = false
  /** Whether its chunks go to `reply.raw` directly. */
  #isSentPast = false
  #isTaken = false
  #isDirect = false
  #hasTrailers = false
  #isReadByHook = false
  #isGivenUp = false
  /** Whether readers hear of its end when the reply has closed. */
  #isToldLater = false

  constructor(owner: BodyOwner) {
    super({ autoDestroy: false })
    this.#owner = owner
    this.#raw = owner.reply.raw
    this.#hasOwnType = isHandedOver(this.#raw)
    this.#pipes = new Pipes(this, this.#raw, {
      onFailed: (error) => owner.fail(ofThisExport(error)),
      onCopyFailed: owner.tellOfCopy,
      onLate: owner.sendError
    })
    this.on('error', () => {})
    this.once('end', () => {
      // What `wrap()` makes of it, which alone listens to 'destroy', drops on 'close' what it has not given out yet.
      if (this.listenerCount('destroy') === 0) this.destroy()
      else if (owner.isOver) this.#whenReplyCloses(() => this.destroy())
    })
  }

  /** Whether the reply is this body's, also where it is sent without one. */
  get isTaken(): boolean {
    return this.#isTaken
  }

  /** Whether it is itself what Fastify pipes into the reply. */
  get isDirect(): boolean {
    return this.#isDirect
  }

  /** Whether Fastify ends the reply, behind trailers. */
  get hasTrailers(): boolean {
    return this.#hasTrailers
  }

  /** Whether its chunks pass through it, to a hook that pipes it, iterates over it or listens to it. */
  get isReadByHook(): boolean {
    return this.#isReadByHook
  }

  /** Whether a hook, or who ends its stream, wants no more of it. */
  get isGivenUp(): boolean {
    return this.#isGivenUp
  }

  /** Whether Fastify has what it sends. A hook that is still at work may give something else. */
  get isHandedOn(): boolean {
    return this.#pipes.isSent || headHasGone(this.#raw) || (!this.#hasOwnType && isHandedOver(this.#raw))
  }

  override pipe<W extends NodeJS.WritableStream>(destination: W, { end = true }: { end?: boolean } = {}): W {
    const isDirect = destination === (this.#raw as unknown)
    if (!isDirect) this.#pipes.add(destination as unknown as Writable, end)
    if (this.#isSentPast) {
      this.#pipes.fail(this.#refuseLateReader())
      return destination
    }
    this.#isTaken = true
    if (this.#owner.isOver || !takesBody(this.#owner.reply)) {
      this.#owner.end()
      dropTrailers(this.#raw)
      if (!isDirect) this.#refuseReader()
      // One that failed while a hook made it wait gets an error reply from Fastify, which watches this stream or a stage.
      if (this.errored !== null) {
        if (isDirect) return destination
        this.#pipes.fail(this.errored)
        if (this.isHandedOn) this.#owner.sendError(this.errored)
      } else if (!this.#owner.isErrorTold) {
        if (end) this.#endBehind(destination)
        this.finish()
      }
      return destination
    }
    // Of what a hook makes of the body, nobody knows the length.
    prepareHead(this.#owner.reply, isDirect ? this.#owner.length : undefined)
    this.#owner.hold()
    if (!isDirect) {
      this.#isReadByHook = true
      return super.pipe(destination, { end })
    }
    this.#isDirect = true
    this.#hasTrailers = !end
    this.#pipes.sendBody()
    // A hook reads too: each gets everything, unless it has begun, as the client would lack what it has got.
    if (this.readableDidRead) this.#owner.fail(new CSV_EXPORT_BODY_DESTROYED())
    else if (this.readableFlowing !== null || this.#isAsked) super.pipe(destination, { end })
    else this.#sendTo(destination, end)
    return destination
  }

  #sendTo(destination: NodeJS.WritableStream, end: boolean): void {
    this.#isSentPast = true
    this.#isAsked = true
    this.#owner.send(destination as unknown as Destination, true, () => {
      if (end) {
        // The end comes some turns later, and the last chunk with it: one packet. Not of the reply, which before version 24 of Node
        // may then emit no 'drain'.
        const transport = transportOf(this.#raw)
        transport?.cork()
        this.#endBehind(destination, transport)
      }
      this.finish()
    })
  }

  /** Ends a destination with 'end', so that who watches this stream hears of it before the reply is over. */
  #endBehind(destination: NodeJS.WritableStream, corked?: Writable | null): void {
    const endReply = guarded(() => {
      destination.end()
      // Who wraps the end of a reply may have it wait for long.
      corked?.uncork()
    }, this.#owner.fail)
    if (this.readableEnded) endReply()
    else this.once('end', endReply)
  }

  override _read(): void {
    if (!this.#isReadByHook && !takesBody(this.#owner.reply)) this.#owner.end()
    if (this.#owner.isOver) {
      if (!this.#isToldLater) this.#refuseReader()
      return
    }
    this.#buffer.emptied()
    if (this.#isSentPast) this.#refuseLateReader()
    if (this.#isAsked) return
    this.#isReadByHook = true
    this.#owner.hold()
    this.#isAsked = true
    this.#owner.send(this.#buffer, false, () => this.push(null))
  }

  /** Fastify drains the payload of a HEAD or 204 reply with this. Nothing was started, so there is nothing to drain. */
  override resume(): this {
    this.#isTaken = true
    if (takesBody(this.#owner.reply)) return super.resume()
    this.#owner.end()
    return this
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const owner = this.#owner
    let reason = error
    if (!owner.isWritten && !this.readableEnded) {
      owner.endIfClosed()
      this.#isGivenUp = !owner.isOver
      if (owner.isStarted) owner.fail(error === null ? new CSV_EXPORT_BODY_DESTROYED() : ofThisExport(error))
      owner.end()
      // If it is sent all the same, it is no empty file.
      reason = error ?? owner.reason ?? new CSV_EXPORT_BODY_DESTROYED()
    }
    if (reason !== null && !this.readableEnded) this.#pipes.fail(reason)
    // Of a reply that is broken, Fastify would log the reason once more, as a warning.
    const isBroken = headHasGone(this.#raw) || isEndOfExport(reason)
    const isClosed = error === null && this.#isDirect && !this.#isReadByHook && isBroken
    // Fastify would make a reply of it, unless it knows that its client has left.
    if (isClosed && !this.#raw.headersSent && !owner.reply.request.raw.aborted) this.push(null)
    callback(isClosed ? null : reason)
  }

  /**
   * The export is over too early: what else reads this stream must not take a part for the whole.
   * @param isErrorNext whether an error reply is sent instead
   */
  cutOff(reason: Error, isErrorNext: boolean): void {
    // Its pipe, where a hook reads too, would end the reply as if it were whole.
    this.unpipe(this.#raw)
    if (this.#isReadByHook) {
      if (this.isHandedOn && !headHasGone(this.#raw)) this.#failReadersLater(reason)
      else this.#failReaders(reason)
    } else if (!this.#isDirect) {
      // Something else has been sent.
      if (this.#raw.writableEnded) this.destroy(reason)
    } else if (!isErrorNext) {
      // Without an error, which Fastify would log once more. It asks the reply, where @fastify/express has another answer.
      if (this.#raw.headersSent) this.destroy()
      else this.#whenReplyCloses(() => this.destroy())
    }
  }

  /**
   * Copies fail at once. Of what the hook has given Fastify, if that fails with the body by itself, Fastify would make an error
   * reply, or one more, before it knows that its client has left; what makes one may wait for readers, too.
   */
  #failReadersLater(reason: Error): void {
    this.#isToldLater = true
    this.#pipes.fail(reason)
    this.#whenReplyCloses(() => this.#failReaders(reason))
  }

  #whenReplyCloses(callback: () => void): void {
    const close = AsyncResource.bind(() => {
      clearTimeout(timer)
      this.#raw.off('close', close)
      callback()
    })
    const timer = setTimeout(close, patience).unref()
    this.#raw.once('close', close)
  }

  /**
   * A stream that a hook makes of it by iterating over it, and pipes on, has no listener to 'error', and would end the process. So
   * nobody but pipes is told of what neither the source nor a limit has ended, once Fastify has closed what the hook gave it.
   */
  #failReaders(reason: Error): void {
    const isTold = !isEndOfExport(reason) || !this.isHandedOn || this.#isDirect || !this.#hasOtherReaders
    if (isTold) this.destroy(reason)
    else {
      this.pause()
      this.#pipes.fail(reason)
    }
  }

  /** Besides pipes, each of which listens to 'data'. An iteration listens to 'readable'. */
  get #hasOtherReaders(): boolean {
    return this.listenerCount('readable') > 0 || this.listenerCount('data') > this.#pipes.size
  }

  /** Who comes when it is over must not take nothing for the whole either. */
  #refuseReader(): void {
    const { reason } = this.#owner
    if (reason !== undefined) this.destroy(reason)
  }

  /** What is sent past it lacks nothing to the client, but would be missing here: an empty file that looks whole. */
  #refuseLateReader(): Error {
    this.#isReadByHook = true
    const refusal = this.#owner.reason ?? new CSV_EXPORT_BODY_DESTROYED()
    if (!this.#owner.isWritten) this.#owner.fail(refusal)
    return refusal
  }

  /** Ends it for whoever waits for that, as if it were whole. */
  finish(): void {
    if (this.readableEnded) this.destroy()
    this.push(null)
    super.resume()
  }
}
