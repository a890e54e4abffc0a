import { createHash, type Hash } from 'node:crypto'
import type { Http2Stream } from 'node:http2'
import { finished, Readable, type Writable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { Encoder } from '../csv/encoder.ts'
import { CSV_EXPORT_BODY_DESTROYED, CSV_EXPORT_CLIENT_GONE } from '../errors.ts'
import { guarded, toError } from '../guard.ts'
import {
  deliver,
  type ExportProgress,
  publishProgress,
  publishStart,
  type Recipients
} from '../receipts/delivery.ts'
import { errorCodeOf, type Receipt, statusOf } from '../receipts/receipts.ts'
import { Outlet } from '../stream/outlet.ts'
import { Pump, type PumpOptions } from '../stream/pump.ts'
import type { Source } from '../stream/source.ts'
import { breakConnection, headHasGone } from './connection.ts'
import type { ReplyCoding } from './content-coding.ts'
import {
  addTrailers,
  dropTrailers,
  exportIdHeader,
  prepareErrorReply,
  separateTrailerNames,
  takesTrailers
} from './headers.ts'
import type { Breakable, RunningExports } from './running.ts'

export interface BodyOptions extends PumpOptions, Recipients {
  id: string
  report: string
  digest: boolean
  coding: ReplyCoding | undefined
  /** Whom the export is counted for. */
  key: string | undefined
}

/**
 * The payload given to `reply.send()`. Fastify runs its onSend hooks on it as on any stream and then calls `pipe()`,
 * where our own pump takes over and writes into `reply.raw`. A reply ends in `#end()` and nowhere else.
 */
export class StreamedBody<T> extends Readable implements Breakable {
  readonly #reply: FastifyReply
  readonly #http2Stream: Pick<Http2Stream, 'destroyed' | 'writableFinished'> | undefined
  readonly #source: Source<T>
  readonly #encoder: Encoder<T>
  readonly #options: BodyOptions
  readonly #running: RunningExports
  readonly #startedAt = performance.now()
  readonly #abort = new AbortController()
  readonly #hash: Hash | undefined
  readonly #digestSent: boolean
  #outlet: Outlet | undefined
  #pump: Pump<T> | undefined
  #destination: unknown
  #allWritten = false
  #ended = false

  constructor(
    reply: FastifyReply,
    source: Source<T>,
    encoder: Encoder<T>,
    options: BodyOptions,
    running: RunningExports
  ) {
    super()
    running.add(this, options.key)
    this.#reply = reply
    const { raw } = reply
    // Kept, as an Http2ServerResponse loses it when it closes.
    if ('stream' in raw) {
      const stream = raw.stream as Http2Stream | undefined
      this.#http2Stream = stream ?? { destroyed: true, writableFinished: false }
    }
    this.#source = source
    this.#encoder = encoder
    this.#options = options
    this.#running = running
    const trailersAdded =
      this.#bodyWanted() &&
      addTrailers(reply, () => ({
        'export-rows': this.#allWritten ? String(encoder.count) : undefined,
        // A hook in between has made another representation of it: https://www.rfc-editor.org/rfc/rfc9530#section-3
        'repr-digest':
          this.#allWritten && this.#destination === raw ? `sha-256=:${this.#sentSha256()}:` : undefined
      }))
    this.#digestSent = trailersAdded
    if (options.digest || trailersAdded) this.#hash = createHash('sha256')
    this.on('error', () => {})
    // A hook may drop the payload without a word; the end of the reply is then the only sign of it.
    raw.on('close', this.#onClose).on('finish', this.#onFinish)
    if (this.#http2Stream === undefined) raw.socket?.prependListener('end', this.#onHalfClose)
    if (reply.request.routeOptions.handlerTimeout) {
      reply.request.signal.addEventListener('abort', this.#onHandlerTimeout)
    }
    if (this.#clientGone()) this.#onReplyEnd(false)
  }

  override pipe<W extends NodeJS.WritableStream>(destination: W, { end = true }: { end?: boolean } = {}): W {
    const { raw } = this.#reply
    if (this.#ended || !this.#bodyWanted()) {
      this.#end()
      dropTrailers(raw)
      // One that failed while a hook made it wait gets an error reply from Fastify.
      if (end && this.errored === null) destination.end()
      return destination
    }
    if (takesTrailers(this.#reply)) separateTrailerNames(raw)
    else {
      // Node would use it if such a request says `TE: chunked`, which a client's proxy may not understand.
      ;(raw as { useChunkedEncodingByDefault?: boolean }).useChunkedEncodingByDefault = false
      dropTrailers(raw)
    }
    this.#destination = destination
    // Ahead of Fastify, which would close the connection: to HTTP/1.0 the end of a whole body.
    if (destination !== (raw as unknown)) finished(destination, { readable: false }, this.#onDestinationEnd)
    // What a hook in between makes of the body is its own.
    const coding = destination === (raw as unknown) ? this.#options.coding : undefined
    this.#outlet = new Outlet(destination as unknown as Writable, coding, this.#digestSent)
    this.#pump = new Pump(this.#source, this.#encoder, this.#outlet, {
      ...this.#options,
      hash: this.#hash,
      onCommit: () => this.#sendHead(),
      onWrite: () => publishProgress(this.#progress)
    })
    publishStart(this.#progress)
    const onWritten = () => this.#onAllWritten(destination, end)
    this.#pump.run(this.#abort.signal, this.fail).then(onWritten).catch(this.fail)
    return destination
  }

  #onAllWritten(destination: NodeJS.WritableStream, end: boolean): void {
    if (this.#ended) return
    // Fastify, which ends a reply with trailers, would send the head of an empty one in a callback that nobody guards.
    if (!end) this.#sendHead()
    this.#allWritten = true
    // Emits 'end' and 'close', for which Fastify waits. The reply itself ends when its last byte has gone.
    this.#finish()
    if (end) destination.end()
  }

  /** Fastify drains the payload of a HEAD or 204 reply with this. Nothing was started, so there is nothing to drain. */
  override resume(): this {
    if (!this.#bodyWanted()) this.#end()
    return this
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (!this.#allWritten) {
      if (!this.#ended && this.#pump !== undefined && !this.#clientGone()) {
        this.fail(error ?? new CSV_EXPORT_BODY_DESTROYED())
      }
      this.#end()
    }
    callback(error)
  }

  readonly fail = (reason: unknown): void => {
    if (this.#ended) return
    const error = toError(reason)
    const { raw } = this.#reply
    this.#end(error)
    if (headHasGone(raw)) {
      breakConnection(raw)
      return
    }
    // A hook that piped the body into a stream of its own has given Fastify that stream to watch.
    if (this.#destination !== raw) (this.#destination as Writable | undefined)?.destroy(error)
    // Fastify makes an error reply of it, as of any stream that fails before its first byte.
    this.destroy(error)
  }

  /** For all that Node calls. */
  #guarded(callback: () => void): () => void {
    return guarded(callback, this.fail)
  }

  /** Ahead of Fastify, which then closes the connection in a way that HTTP/1.0 takes for the end, or replies itself. */
  readonly #onHandlerTimeout = this.#guarded(() => {
    const { reason } = this.#reply.request.signal
    if (reason?.code !== 'FST_ERR_HANDLER_TIMEOUT') return
    if (headHasGone(this.#reply.raw)) {
      this.fail(reason)
    } else {
      prepareErrorReply(this.#reply, reason)
      this.#end(reason)
    }
  })

  /** Ahead of Node, which ends its own side when a client ends its: to HTTP/1.0 the end of a whole body. */
  readonly #onHalfClose = this.#guarded(() => {
    if (this.#allWritten) return
    this.#end(new CSV_EXPORT_CLIENT_GONE())
    breakConnection(this.#reply.raw)
  })

  readonly #onDestinationEnd = (error?: Error | null): void => {
    if (error) this.fail(error)
  }

  /** An aborted reply on HTTP/2 says it too, and its response that all is written: only the stream knows. */
  readonly #onFinish = this.#guarded(() => this.#onReplyEnd(this.#http2Stream?.writableFinished ?? true))

  readonly #onClose = this.#guarded(() => this.#onReplyEnd(false))

  #onReplyEnd(allSent: boolean): void {
    const { raw } = this.#reply
    if (!raw.writableEnded) this.#end(new CSV_EXPORT_CLIENT_GONE())
    else if (!this.#allWritten) this.#end(new CSV_EXPORT_BODY_DESTROYED())
    else if (allSent) this.#end()
    else this.#end(new CSV_EXPORT_CLIENT_GONE())
  }

  /** The one way to end. With a reason, the source has more to give, or failed: it is told and let go. */
  #end(reason?: Error): void {
    if (this.#ended) return
    this.#ended = true
    const { raw, request } = this.#reply
    raw.socket?.off('end', this.#onHalfClose)
    raw.off('close', this.#onClose).off('finish', this.#onFinish)
    if (request.routeOptions.handlerTimeout) {
      request.signal.removeEventListener('abort', this.#onHandlerTimeout)
    }
    const started = this.#pump !== undefined
    this.#pump?.stop()
    if (!this.#allWritten) {
      this.#abort.abort(reason)
      this.#source.release()
    }
    this.#finish()
    if (started || reason instanceof CSV_EXPORT_CLIENT_GONE) {
      // Before the first byte the error becomes Fastify's reply, and Fastify logs it.
      const error = headHasGone(raw) ? reason : undefined
      this.#running.track(deliver(this.#receipt(reason), error, this.#reply, this.#options))
    }
    this.#running.remove(this)
  }

  #finish(): void {
    this.push(null)
    super.resume()
  }

  #sendHead(): void {
    const { raw } = this.#reply
    // Not before Fastify has handed the headers over, for which a hook may still make it wait.
    if (!headHasGone(raw) && raw.hasHeader(exportIdHeader)) raw.flushHeaders()
  }

  #receipt(reason: Error | undefined): Receipt {
    const milliseconds = (at: number) => Math.round((at - this.#startedAt) * 1000) / 1000
    const { firstByteAt } = this.#pump ?? {}
    return {
      ...this.#progress(),
      contentCoding: this.#outlet?.contentCoding ?? null,
      sentBytes: this.#outlet?.sentBytes ?? 0,
      escapedCells: this.#encoder.escapedCells,
      columnsWithoutValue: reason === undefined ? this.#encoder.columnsWithoutValue : null,
      keysWithoutColumn: reason === undefined ? this.#encoder.keysWithoutColumn : null,
      status: statusOf(reason),
      startedAt: new Date(performance.timeOrigin + this.#startedAt).toISOString(),
      firstByteAfter: firstByteAt === undefined ? null : milliseconds(firstByteAt),
      duration: milliseconds(performance.now()),
      errorCode: errorCodeOf(reason),
      sha256: this.#hash === undefined ? null : this.#sha256('hex')
    }
  }

  /** Of the bytes as they are sent. */
  #sentSha256(): string {
    return this.#outlet?.contentCoding ? this.#outlet.sha256('base64') : this.#sha256('base64')
  }

  #sha256(encoding: 'hex' | 'base64'): string {
    // A copy, as a hash gives its digest only once.
    return (this.#hash as Hash).copy().digest(encoding)
  }

  readonly #progress = (): ExportProgress => ({
    id: this.#options.id,
    requestId: this.#reply.request.id,
    report: this.#options.report,
    rows: this.#encoder.count,
    bytes: this.#pump?.bytes ?? 0
  })

  #clientGone(): boolean {
    return (this.#http2Stream ?? this.#reply.raw).destroyed
  }

  #bodyWanted(): boolean {
    const { request, raw } = this.#reply
    return (
      request.method !== 'HEAD' && raw.statusCode >= 200 && raw.statusCode !== 204 && raw.statusCode !== 304
    )
  }
}
