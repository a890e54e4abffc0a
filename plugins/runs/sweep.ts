import type { FastifyBaseLogger } from 'fastify'
import { logSafely } from '../csv-export/guard.ts'
import { isSettled } from '../pg/settled.ts'
import { discard } from './files/discard.ts'
import type { FileStore } from './files/files.ts'
import type { Runs } from './table/runs.ts'

export interface SweepOptions {
  runs: Pick<Runs, 'expire' | 'forget' | 'unknownFiles'>
  files: FileStore
  /** Milliseconds between two sweeps of this process. */
  interval: number
  /** Milliseconds for a sweep that is under way at the end: its store may not answer. */
  closeGrace: number
  /** Milliseconds after its end that a run without a file is still told of. */
  forgetAfter: number
  log: FastifyBaseLogger
}

const batchSize = 1_000

/** Removes what is no longer kept. Several processes may do so at once: each step may be done twice. */
export class Sweep {
  readonly #options: SweepOptions
  #timer: NodeJS.Timeout | undefined
  #sweeping: Promise<void> | undefined

  constructor(options: SweepOptions) {
    this.#options = options
  }

  start(): void {
    this.#timer = setTimeout(() => {
      this.#sweeping = this.sweep()
        .catch((err) => logSafely(this.#options.log, 'warn', { err }, 'a sweep of the runs failed'))
        .then(() => this.#timer && this.start())
    }, this.#options.interval)
    this.#timer.unref()
  }

  async stop(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    await isSettled(this.#sweeping ?? Promise.resolve(), this.#options.closeGrace)
  }

  async sweep(): Promise<void> {
    const { runs, files, forgetAfter, log } = this.#options
    for (const fileId of await runs.expire()) await discard(files, fileId, log)
    await runs.forget(forgetAfter)
    await this.#removeOrphans()
    await files.sweep?.()
  }

  /** Of attempts that died. An attempt's file is its run's before there is anything of it. */
  async #removeOrphans(): Promise<void> {
    const { runs, files, log } = this.#options
    let batch: string[] = []
    const remove = async () => {
      for (const id of await runs.unknownFiles(batch)) await discard(files, id, log)
      batch = []
    }
    for await (const id of files.list()) {
      batch.push(id)
      if (batch.length === batchSize) await remove()
    }
    await remove()
  }
}
