import { Readable, type Writable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { breakConnection } from './connection.ts'
import type { Encoder } from './encoder.ts'
import { CSV_EXPORT_BODY_DESTROYED, CSV_EXPORT_CLIENT_GONE, CSV_EXPORT_SOURCE_FAILED } from './errors.ts'
import { removeDownloadHeaders } from './headers.ts'
import { Pump, type PumpOptions } from './pump.ts'
import type { Source } from './source.ts'

/**
 * The payload given to `reply.send()`. Fastify runs its onSend hooks on it as on any stream and then calls `pipe()`,
 * where our own pump takes over and writes into `reply.raw`. A reply ends in `#end()` and nowhere else.
 */
export class StreamedBody<T> extends Readable {
  readonly #reply: FastifyReply
  readonly #source: Source<T>
  readonly #encoder: Encoder<T>
  readonly #options: PumpOptions
  readonly #abort = new AbortController()
  #pump: Pump<T> | undefined
  #destination: unknown
  #ended = false

  constructor(reply: FastifyReply, source: Source<T>, encoder: Encoder<T>, options: PumpOptions) {
    super()
    this.#reply = reply
    this.#source = source
    this.#encoder = encoder
    this.#options = options
    this.on('error', () => {})
    // A hook may drop the payload without a word; the end of the reply is then the only sign of it.
    reply.raw.on('close', this.#onReplyEnd).on('finish', this.#onReplyEnd)
    if (this.#clientGone()) this.#onReplyEnd()
  }

  override pipe<W extends NodeJS.WritableStream>(destination: W, { end = true }: { end?: boolean } = {}): W {
    if (this.#ended || !this.#bodyWanted()) {
      this.#end()
      if (end) destination.end()
      return destination
    }
    this.#destination = destination
    this.#pump = new Pump(this.#source, this.#encoder, destination as unknown as Writable, this.#options)
    this.#pump.run(this.#abort.signal).then(
      () => {
        if (this.#ended) return
        this.#end()
        if (end) destination.end()
      },
      (error) => this.#fail(error)
    )
    return destination
  }

  /** Fastify drains the payload of a HEAD or 204 reply with this. Nothing was started, so there is nothing to drain. */
  override resume(): this {
    if (!this.#bodyWanted()) this.#end()
    return this
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (!this.#ended && this.#pump !== undefined && !this.#clientGone()) {
      this.#fail(error ?? new CSV_EXPORT_BODY_DESTROYED())
    }
    this.#end()
    callback(error)
  }

  readonly #onReplyEnd = (): void => {
    if (this.#ended) return
    const { raw, log } = this.#reply
    // Not writableFinished: on HTTP/2 an aborted reply says that it is.
    if (!raw.writableEnded) {
      log.info(this.#progress(), 'the client left before the end of the body')
      this.#end(new CSV_EXPORT_CLIENT_GONE())
      return
    }
    const error = new CSV_EXPORT_BODY_DESTROYED()
    if (this.#pump !== undefined) log.error({ err: error, ...this.#progress() }, 'the body is not whole')
    this.#end(error)
  }

  #fail(error: unknown): void {
    if (this.#ended) return
    const { raw, log } = this.#reply
    if (!raw.headersSent) {
      removeDownloadHeaders(this.#reply)
      this.#end(error)
      // A hook that piped the body into a stream of its own has given Fastify that stream to watch.
      if (this.#destination !== raw) (this.#destination as Writable | undefined)?.destroy(error as Error)
      // Fastify makes an error reply of it, as of any stream that fails before its first byte.
      this.destroy(
        error instanceof Error ? error : new CSV_EXPORT_SOURCE_FAILED(String(error), { cause: error })
      )
      return
    }
    log.error(
      { err: error, ...this.#progress() },
      'the source failed: the connection is broken so that the client sees it'
    )
    this.#end(error)
    breakConnection(raw)
  }

  /** The one way to end. With a reason, the source has more to give, or failed: it is told and let go. */
  #end(reason?: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#reply.raw.off('close', this.#onReplyEnd).off('finish', this.#onReplyEnd)
    const complete = this.#pump !== undefined && reason === undefined
    this.#pump?.stop()
    if (!complete) {
      this.#abort.abort(reason)
      this.#source.release()
    }
    // Emits 'end' and 'close', for which Fastify waits.
    this.push(null)
    super.resume()
  }

  #progress(): { rows: number; bytes: number } {
    return { rows: this.#pump?.rows ?? 0, bytes: this.#pump?.bytes ?? 0 }
  }

  #clientGone(): boolean {
    const { raw } = this.#reply
    // An Http2ServerResponse has no `destroyed`, and loses its stream when that is closed.
    return 'stream' in raw
      ? (raw.stream as { destroyed: boolean } | undefined)?.destroyed !== false
      : raw.destroyed
  }

  #bodyWanted(): boolean {
    const { request, raw } = this.#reply
    return (
      request.method !== 'HEAD' && raw.statusCode >= 200 && raw.statusCode !== 204 && raw.statusCode !== 304
    )
  }
}
