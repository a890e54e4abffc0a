import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import { logSafely, toError } from '../csv-export/guard.ts'
import type { OpenCsv } from '../csv-export/stream/to-csv.ts'
import {
  CSV_EXPORT_CLAIM_LOST,
  CSV_EXPORT_REPORT_CHANGED,
  CSV_EXPORT_RUN_CANCELLED,
  CSV_EXPORT_RUN_LOST,
  CSV_EXPORT_UNKNOWN_REPORT,
  CSV_EXPORT_WORKER_CLOSING
} from './errors.ts'
import { discard } from './files/discard.ts'
import type { FileStore } from './files/files.ts'
import type { Queue } from './queue.ts'
import type { Report } from './report.ts'
import type { RunEvents } from './run-events.ts'
import { isOpen, type RunEnd, type RunLimits, type RunRow, type Runs } from './table/runs.ts'
import { isTransient } from './transient.ts'
import type { RunWatch } from './watch.ts'

export interface WorkerOptions {
  runs: Runs
  files: FileStore
  queue: Pick<Queue, 'sendRun' | 'sendRunLater' | 'sendFinished'>
  watch: RunWatch
  reports: ReadonlyMap<string, Report>
  /** Makes the file of a report. */
  open(report: Report, run: RunRow, signal: AbortSignal): OpenCsv
  keepFor: number
  limits: RunLimits
  events: RunEvents
  onFinished?: ((run: RunRow) => unknown) | undefined
  log: FastifyBaseLogger
}

/** Milliseconds between two reports of progress. */
const progressInterval = 1_000
/** Milliseconds for which a run waits for a process that knows its report. */
const patience = 86_400_000
/** Seconds. */
const longestPause = 30

/** Makes the files of runs, an attempt at a time for each job. */
export class Worker {
  readonly #options: WorkerOptions
  readonly #closing = new AbortController()

  constructor(options: WorkerOptions) {
    this.#options = options
  }

  /** A job of a run: throws what has to be tried again. */
  readonly attempt = async (id: string, signal: AbortSignal, isLast: boolean): Promise<void> => {
    const { runs, files, queue, reports, events, log } = this.#options
    const waiting = await runs.get(id)
    if (waiting === undefined || !isOpen(waiting)) return
    const report = reports.get(waiting.report)
    if (report === undefined || report.version < waiting.version) return await this.#leave(waiting)
    const claimed = await runs.claim(id, randomUUID())
    if (claimed === undefined) return
    const { run, lostFile } = claimed
    // Not awaited, here and below: the store may not answer.
    if (lostFile !== null) discard(files, lostFile, log)
    events.tell(run.attempt === 1 ? 'started' : 'taken-over', run)
    try {
      if (report.version > run.version)
        throw new CSV_EXPORT_REPORT_CHANGED(run.report, run.version, report.version)
      await this.#make(run, report, signal)
    } catch (error) {
      // Ended by others, who know better.
      if (signal.aborted || !(await runs.isClaimed(run))) return
      if (error instanceof CSV_EXPORT_WORKER_CLOSING) await runs.release(run, queue.sendRun)
      else if (isTransient(error) && !isLast) {
        logSafely(log, 'warn', { err: error, run: { id } }, 'a run is tried again')
        throw error
      } else await this.#finish(run, failureOf(error))
    }
  }

  /** To a process of a newer version, or of another service, that has made it. No attempt is lost with that. */
  async #leave({ id, report, version, created_at }: RunRow): Promise<void> {
    const { queue, log } = this.#options
    const err = new CSV_EXPORT_UNKNOWN_REPORT(report, version)
    const age = Date.now() - Date.parse(created_at)
    if (age > patience) return await this.#close(id, err)
    logSafely(log, 'warn', { err, run: { id } }, 'a run waits for a worker that knows its report')
    await queue.sendRunLater(id, Math.min(longestPause, Math.max(1, Math.ceil(age / 20_000))))
  }

  async #make(run: RunRow, report: Report, signal: AbortSignal): Promise<void> {
    const { runs, files, watch, limits, open, log } = this.#options
    const lost = new AbortController()
    const unwatch = watch.watch(run.id, (now) => {
      if (now?.state === 'cancelled') lost.abort(new CSV_EXPORT_RUN_CANCELLED())
      else if (now?.file_id !== run.file_id) lost.abort(new CSV_EXPORT_CLAIM_LOST())
    })
    const stopped = AbortSignal.any([lost.signal, signal, this.#closing.signal])
    const stop = Promise.withResolvers<never>()
    const onStop = (): void => stop.reject(stopped.reason)
    stop.promise.catch(() => {})
    stopped.addEventListener('abort', onStop)
    let chunks: OpenCsv | undefined
    let end: RunEnd
    try {
      await runs.checkBytes(run.owner, limits)
      stopped.throwIfAborted()
      chunks = open(report, run, stopped)
      // The rows may wait for good, and so may the store.
      end = await Promise.race([this.#write(run, chunks, stopped), stop.promise])
    } catch (error) {
      chunks?.return?.()
      discard(files, run.file_id as string, log)
      throw error
    } finally {
      stopped.removeEventListener('abort', onStop)
      unwatch()
    }
    // If the answer to this is lost, the run may have the file: whoever claims the run next, or a sweep, knows.
    await this.#finish(run, end)
  }

  async #write(run: RunRow, chunks: OpenCsv, stopped: AbortSignal): Promise<RunEnd> {
    const { runs, files, limits } = this.#options
    const writer = await files.create(run.file_id as string)
    let toldAt = performance.now()
    for (;;) {
      const step = await chunks.next()
      stopped.throwIfAborted()
      if (step.done) break
      await writer.append(step.value)
      if (performance.now() - toldAt < progressInterval) continue
      const { rows, bytes } = chunks.progress()
      await runs.setProgress(run, rows, bytes)
      await runs.checkBytes(run.owner, limits)
      toldAt = performance.now()
    }
    const { rows, bytes, sha256 } = await chunks.receipt
    await writer.seal()
    return { state: 'succeeded', rows, bytes, sha256: sha256 as string }
  }

  async #finish(run: RunRow, end: RunEnd): Promise<void> {
    const { runs, queue, keepFor, events } = this.#options
    events.tellFinished(await runs.finish(run, end, keepFor, queue.sendFinished))
  }

  /** A job of a run whose last attempt the queue has given up. */
  readonly giveUp = (id: string): Promise<void> => this.#close(id, new CSV_EXPORT_RUN_LOST())

  /** Ends a run that this process does not make. */
  async #close(id: string, error: Error): Promise<void> {
    const { runs, queue, keepFor, events } = this.#options
    events.tellFinished(await runs.close(id, failureOf(error), keepFor, queue.sendFinished))
  }

  /** A job of a run that has ended: at least once for each. */
  readonly tellFinished = async (id: string): Promise<void> => {
    const { runs, onFinished, log } = this.#options
    const run = await runs.get(id)
    if (run === undefined) return
    try {
      await onFinished?.(run)
    } catch (err) {
      logSafely(log, 'error', { err, run: { id } }, 'onFinished failed')
      throw toError(err)
    }
  }

  /** Gives what is under way to other processes: each attempt ends by itself. */
  close(): void {
    this.#closing.abort(new CSV_EXPORT_WORKER_CLOSING())
  }
}

/** Characters: a list of runs has many of them. */
const longestMessage = 1_000

function failureOf(thrown: unknown): Extract<RunEnd, { state: 'failed' }> {
  const error = toError(thrown) as Error & { code?: unknown }
  // PostgreSQL's text cannot hold U+0000.
  const [code, message] = [error.code ?? error.name, error.message].map((text) =>
    String(text).slice(0, longestMessage).replaceAll('\0', '\ufffd')
  ) as [string, string]
  return { state: 'failed', code, message }
}
