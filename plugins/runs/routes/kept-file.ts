import type { FastifyBaseLogger } from 'fastify'
import { logSafely } from '../../csv-export/guard.ts'
import { CSV_EXPORT_FILE_INCOMPLETE, CSV_EXPORT_RUN_EXPIRED } from '../errors.ts'
import type { FileStore } from '../files/files.ts'
import { takenOnce } from '../files/pieces.ts'
import type { RunRow, Runs } from '../table/runs.ts'

/** Milliseconds that a file outlives its run for a reader that has begun, and between two words of it that it still reads. */
const readerGrace = 600_000
const readerInterval = 60_000

export interface FilesOptions {
  runs: Pick<Runs, 'keepForReader'>
  files: FileStore
}

export type RunWithFile = RunRow & { sha256: string; file_id: string }

type Result = IteratorResult<Buffer, undefined>

/**
 * The bytes from `from` to before `to` of a run's file, no more and no fewer, for one reader. The file is kept while it is
 * read, also by a client that stalls.
 *
 * A class, as an async generator would keep its last bytes for as long as the client does not ask for more.
 */
export class KeptFile implements AsyncIterableIterator<Buffer, undefined> {
  readonly #run: RunWithFile
  readonly #to: number
  readonly #log: FastifyBaseLogger
  readonly #options: FilesOptions
  #at: number
  #keeping: NodeJS.Timeout | undefined
  #chunks: Promise<AsyncIterator<Buffer>> | undefined

  constructor(run: RunWithFile, from: number, to: number, log: FastifyBaseLogger, options: FilesOptions) {
    this.#run = run
    this.#at = from
    this.#to = to
    this.#log = log
    this.#options = options
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /** @throws CSV_EXPORT_RUN_EXPIRED, CSV_EXPORT_FILE_INCOMPLETE */
  async next(): Promise<Result> {
    this.#chunks ??= this.#open()
    return this.#chunks.then((chunks) => chunks.next()).then(this.#count, this.#fail)
  }

  async return(): Promise<Result> {
    const chunks = await this.#chunks
    clearInterval(this.#keeping)
    await chunks?.return?.()
    return { done: true, value: undefined }
  }

  async #open(): Promise<AsyncIterator<Buffer>> {
    const { id, file_id: fileId } = this.#run
    if (!(await this.#keep())) throw new CSV_EXPORT_RUN_EXPIRED(id)
    this.#keeping = setInterval(() => {
      this.#keep().catch((err) =>
        logSafely(this.#log, 'warn', { err, run: { id } }, 'a file that is read may not be kept')
      )
    }, readerInterval)
    return this.#options.files.read(fileId, this.#at, this.#to)[Symbol.asyncIterator]()
  }

  #keep(): Promise<boolean> {
    return this.#options.runs.keepForReader(this.#run, readerGrace)
  }

  readonly #count = ({ done, value: chunk }: IteratorResult<Buffer>): Result => {
    if (!done) {
      this.#at += chunk.length
      if (this.#at <= this.#to) return takenOnce(chunk)
    }
    clearInterval(this.#keeping)
    if (this.#at !== this.#to) throw new CSV_EXPORT_FILE_INCOMPLETE(this.#run.file_id)
    return { done: true, value: undefined }
  }

  /** Nobody returns an iterator that has failed. */
  readonly #fail = (error: unknown): never => {
    clearInterval(this.#keeping)
    throw error
  }
}
