import { finished, type Readable, type Writable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { headHasGone } from '../connection/connection.ts'
import { failStream, leadsTo, type Stage } from '../stream/stages.ts'
import { isNodeStream } from '../stream/streams.ts'

export interface PipesOptions {
  /** Called when one fails that leads to the reply, as far as can be known. */
  onFailed(error: Error): void
  /** Called when one fails that takes a copy: the reply lacks nothing. */
  onCopyFailed(error: Error): void
  /** Called when Fastify is given a stream to send that comes of a body which has failed before. */
  onLate(error: Error): void
}

interface Pipe {
  /** Whether it ends with the body. One that does not may be there for all requests: nothing of an export is to be left on it. */
  ends: boolean
  unwatch(): void
}

/** What hooks pipe a body into: one leads to the reply, others take a copy. */
export class Pipes {
  readonly #body: Readable
  readonly #raw: FastifyReply['raw']
  readonly #options: PipesOptions
  readonly #pipes = new Map<Stage, Pipe>()
  /** What Fastify pipes into the reply. */
  #sent: Stage | undefined
  /** Why the body has failed. */
  #error: Error | undefined

  constructor(body: Readable, raw: FastifyReply['raw'], options: PipesOptions) {
    this.#body = body
    this.#raw = raw
    this.#options = options
    raw.on('pipe', this.#onSent)
  }

  /** Whether Fastify has been given a stream to send. Not each kind of stream says so. */
  get isSent(): boolean {
    return this.#sent !== undefined
  }

  get size(): number {
    return this.#pipes.size
  }

  /** The body itself is what Fastify sends. */
  sendBody(): void {
    this.#sent = this.#body
  }

  /** @param ends whether it is ended with the body */
  add(destination: Writable, ends: boolean): void {
    this.#remove(destination)
    this.#pipes.set(destination, { ends, unwatch: ends ? this.#watch(destination) : () => {} })
  }

  /** @returns stops that */
  #watch(destination: Writable): () => void {
    // Ahead of Fastify, which would close the connection: to HTTP/1.0 the end of a whole body.
    const stop = finished(destination, { readable: false }, (error) => {
      if (error) this.#onFailed(destination, error)
    })
    const onUnpipe = (source: unknown): void => {
      // Node does it to one that fails, too, of which is told in the same turn.
      if (source === this.#body)
        process.nextTick(() => unwatch === this.#pipes.get(destination)?.unwatch && this.#remove(destination))
    }
    destination.on('unpipe', onUnpipe)
    const unwatch = (): void => {
      stop()
      destination.off('unpipe', onUnpipe)
    }
    return unwatch
  }

  /** An error is sent instead: what Fastify has been given could still end the reply. */
  leaveReply(): void {
    if (!headHasGone(this.#raw) && this.#sent !== this.#body) this.#sent?.unpipe?.(this.#raw)
  }

  /**
   * What ends with the body fails with it. What leads to the reply does not, once Fastify has it: that closes it with the reply, and
   * would make another error reply of its failure.
   */
  fail(error: Error): void {
    this.#error = error
    this.leaveReply()
    for (const [destination, { ends, unwatch }] of this.#pipes) {
      unwatch()
      // Node would leave its own listeners on it.
      if (!ends) this.#body.unpipe(destination as unknown as Writable)
      else if (!this.#leadsToReply(destination)) failStream(destination, error)
    }
  }

  #onFailed(destination: Stage, error: Error): void {
    // Before Fastify is given what it sends, it may yet lead there, unless nobody can read of it.
    const isCopy =
      !this.#leadsToReply(destination) && (this.#sent !== undefined || !isNodeStream(destination))
    this.#remove(destination)
    if (isCopy) this.#options.onCopyFailed(error)
    else this.#options.onFailed(error)
  }

  #remove(destination: Stage): void {
    if (this.#error !== undefined) return
    this.#pipes.get(destination)?.unwatch()
    this.#pipes.delete(destination)
  }

  #leadsToReply(destination: Stage): boolean {
    // A reply that has been closed is no longer piped into.
    return [this.#raw, this.#sent].some((end) => end !== undefined && leadsTo(destination, end))
  }

  readonly #onSent = (source: Stage): void => {
    this.#sent ??= source
    const error = this.#error
    if (error === undefined || ![...this.#pipes.keys()].some((stage) => leadsTo(stage, source))) return
    source.unpipe?.(this.#raw)
    this.#options.onLate(error)
  }
}
