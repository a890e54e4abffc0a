import type { FastifyReply } from 'fastify'
import {
  CSV_EXPORT_SERVER_CLOSING,
  CSV_EXPORT_SERVER_ENDED,
  CSV_EXPORT_TOO_MANY,
  CSV_EXPORT_TOO_MANY_FOR_KEY
} from '../errors.ts'
import type { ExportProgress } from '../receipts/record.ts'
import { setRetryAfter } from './headers.ts'
import { List } from './list.ts'

/** An export as far as its server is concerned. */
export interface Breakable {
  /** None before its source is wanted: there may never be a body. */
  readonly progress: ExportProgress | undefined
  /** Ends it visibly. */
  fail(error: Error): void
}

export interface RunningOptions {
  /** Most exports at a time; 0 is no limit. */
  maxConcurrent: number
  /** Most exports of a key at a time; 0 is no limit. */
  maxConcurrentPerKey: number
}

/** Longest that the end of a server waits for the last receipts to be kept, in milliseconds. */
const receiptsGrace = 500

/** The exports that run in this server: admits them, counts them, tells of them, ends them. */
export class RunningExports {
  readonly #options: RunningOptions
  readonly #exports = new List<{ running: Breakable; key: string | undefined }>()
  readonly #deliveries = new List<Promise<void>>()
  #closing = false
  #onIdle: (() => void) | undefined

  constructor(options: RunningOptions) {
    this.#options = options
  }

  /** Throws the error that refuses one more export. */
  admit(reply: FastifyReply, key: string | undefined): void {
    const refusal = this.#refusal(key)
    if (refusal === undefined) return
    setRetryAfter(reply)
    throw refusal
  }

  /** @returns to be called when it has ended */
  add(running: Breakable, key: string | undefined): () => void {
    const remove = this.#exports.add({ running, key })
    return () => {
      remove()
      if (this.#exports.size === 0) this.#onIdle?.()
    }
  }

  list(): ExportProgress[] {
    return [...this.#exports].flatMap(({ running }) => running.progress ?? [])
  }

  /** @returns whether one with this id ran; ids of the user's own making may repeat */
  end(id: string): boolean {
    const named = [...this.#exports].filter(({ running }) => running.progress?.id === id)
    for (const { running } of named) running.fail(new CSV_EXPORT_SERVER_ENDED())
    return named.length > 0
  }

  /** Has the end of the server wait for it. */
  track(delivery: Promise<void>): void {
    delivery.finally(this.#deliveries.add(delivery))
  }

  /** Refuses new exports, gives the running ones `grace` milliseconds, then ends them. */
  async close(grace: number): Promise<void> {
    this.#closing = true
    if (this.#exports.size > 0) {
      await within(
        grace,
        new Promise<void>((resolve) => {
          this.#onIdle = resolve
        })
      )
    }
    for (const { running } of this.#exports) running.fail(new CSV_EXPORT_SERVER_CLOSING())
    await within(receiptsGrace, Promise.allSettled(this.#deliveries))
  }

  #refusal(key: string | undefined): Error | undefined {
    const { maxConcurrent, maxConcurrentPerKey } = this.#options
    if (this.#closing) return new CSV_EXPORT_SERVER_CLOSING()
    if (maxConcurrent !== 0 && this.#exports.size >= maxConcurrent) {
      return new CSV_EXPORT_TOO_MANY(this.#exports.size)
    }
    if (maxConcurrentPerKey === 0 || key === undefined) return undefined
    const count = [...this.#exports].filter((other) => other.key === key).length
    return count >= maxConcurrentPerKey ? new CSV_EXPORT_TOO_MANY_FOR_KEY(count) : undefined
  }
}

async function within(milliseconds: number, promise: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds)
  })
  await Promise.race([promise, over])
  clearTimeout(timer)
}
