import type { FastifyReply } from 'fastify'
import { headHasGone } from '../connection/connection.ts'
import type { Encoder } from '../csv/encoder.ts'
import { CSV_EXPORT_CLIENT_GONE, CSV_EXPORT_CLIENT_STALLED, CSV_EXPORT_MAX_DURATION } from '../errors.ts'
import { announce, deliver, publishProgress, type Recipients } from '../receipts/delivery.ts'
import { type ExportProgress, ExportRecord } from '../receipts/record.ts'
import { Chunks, type ChunksOptions } from '../stream/chunks.ts'
import { Deadline } from '../stream/deadline.ts'
import { type Destination, Sender, type Transport } from '../stream/sender.ts'
import type { Source } from '../stream/source.ts'
import { compress } from './compress.ts'
import type { ReplyCoding } from './content-coding.ts'
import { sendHead } from './headers.ts'

export interface TransmissionOptions extends Omit<ChunksOptions, 'flush' | 'marks'>, Recipients {
  /** Milliseconds; 0 is no limit. */
  stallTimeout: number
  maxDuration: number
  id: string
  report: string
  /** Bytes, where that is known before. */
  length?: number | undefined
  digest: boolean
  coding: ReplyCoding | undefined
}

export interface Route {
  transport: Transport
  destination: Destination
  chunks: AsyncIterable<Uint8Array>
  /** Whether it is the client that has to take something, and not somebody on the way to it. */
  isClientAsked(): boolean
  /** Called once everything has been given to the destination, which is left open. */
  onSent(): void
}

/** The bytes of one export, from its source to where they are sent, and what is told of them. */
export class Transmission<T> {
  readonly #reply: FastifyReply
  readonly #options: TransmissionOptions
  readonly #fail: (error: unknown) => void
  readonly #record: ExportRecord
  readonly #maxDuration: Deadline
  #sender: Sender | undefined
  /** As they are. */
  readonly chunks: Chunks<T>

  /**
   * @param hasTrailers whether the digest of what is sent has to be known at the end
   * @param fail has to end it
   */
  constructor(
    reply: FastifyReply,
    source: Source<T>,
    encoder: Encoder<T>,
    options: TransmissionOptions,
    hasTrailers: boolean,
    fail: (error: unknown) => void
  ) {
    this.#reply = reply
    this.#options = options
    this.#fail = fail
    const { id, report, digest, coding, maxDuration } = options
    this.#record = new ExportRecord(
      {
        id,
        requestId: reply.request.id,
        report,
        digest: digest || hasTrailers,
        sentDigest: hasTrailers && coding !== undefined
      },
      encoder
    )
    this.chunks = new Chunks(source, encoder, this.#record, {
      ...options,
      flush: true,
      marks: coding !== undefined
    })
    this.#maxDuration = new Deadline(maxDuration, () => fail(new CSV_EXPORT_MAX_DURATION(maxDuration)))
  }

  /** In the content coding of the reply: what a hook in between makes of the chunks is its own. */
  coded(): AsyncIterable<Uint8Array> {
    const { coding } = this.#options
    if (coding === undefined) return this.chunks
    const open = () => {
      const coder = coding.open()
      this.#record.contentCoding = coder?.coding ?? null
      return coder
    }
    return compress(this.chunks, { smallest: coding.smallest, open })
  }

  get isStarted(): boolean {
    return this.#sender !== undefined
  }

  get progress(): ExportProgress | undefined {
    return this.#sender && this.#record.progress()
  }

  get rows(): number {
    return this.#record.rows
  }

  /** SHA-256 of what has been sent, as base64. */
  get sentDigest(): string | undefined {
    return this.#record.sentDigest
  }

  start({ transport, destination, chunks, isClientAsked, onSent }: Route): void {
    const { stallTimeout, length } = this.#options
    this.#sender = new Sender(destination, {
      transport,
      stallTimeout,
      isClientAsked,
      onStalled: () => this.#fail(new CSV_EXPORT_CLIENT_STALLED(stallTimeout)),
      onError: this.#fail,
      onMark: () => sendHead(this.#reply.raw),
      onWrite: (chunk) => {
        this.#record.addSent(chunk)
        publishProgress(this.#record.progress)
        // A client that was told the length may leave with the last byte, before any end of the source.
        if (this.#record.sentBytes === length) onSent()
      }
    })
    this.#maxDuration.start()
    announce(this.#record, this.#reply, this.#options)
    this.#sender.send(chunks).then(onSent).catch(this.#fail)
  }

  /** @param isWritten whether all has been given to the destination; else the source is told the reason and let go */
  stop(reason: Error | undefined, isWritten: boolean): void {
    this.#sender?.stop()
    this.#maxDuration.stop()
    if (!isWritten) this.chunks.fail(reason)
  }

  /** Tells how it ended: one that was begun, or whose client left before. */
  tell(reason: Error | undefined): Promise<void> | undefined {
    if (!this.isStarted && !(reason instanceof CSV_EXPORT_CLIENT_GONE)) return undefined
    const isReplied = !headHasGone(this.#reply.raw)
    // An error reply says it instead, which is not coded.
    if (isReplied) this.#record.contentCoding = null
    return deliver({ receipt: this.#record.receipt(reason), reason, isReplied }, this.#reply, this.#options)
  }
}
