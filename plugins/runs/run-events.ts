import { channel } from 'node:diagnostics_channel'
import type { FastifyBaseLogger } from 'fastify'
import { logSafely } from '../csv-export/guard.ts'
import { toRun } from './routes/run-reply.ts'
import type { RunRow } from './table/runs.ts'
import type { RunWatch } from './watch.ts'

const channels = {
  queued: channel('fastify-csv-export:run-queued'),
  started: channel('fastify-csv-export:run-started'),
  'taken-over': channel('fastify-csv-export:run-taken-over'),
  finished: channel('fastify-csv-export:run-finished')
}

/** Tells what becomes of runs, in the process that does it: by a line in its log, and by a channel that carries the run. */
export class RunEvents {
  readonly #log: FastifyBaseLogger
  readonly #prefix: string
  readonly #watch: Pick<RunWatch, 'tell'>

  /** @param prefix of the routes */
  constructor(log: FastifyBaseLogger, prefix: string, watch: Pick<RunWatch, 'tell'>) {
    this.#log = log
    this.#prefix = prefix
    this.#watch = watch
  }

  tell(event: keyof typeof channels, row: RunRow): void {
    // Whose it is, and of what, is not for everybody who reads the log.
    const { parameters, ...run } = toRun(row, this.#prefix)
    const word = event === 'finished' ? run.state : event.replace('-', ' ')
    logSafely(this.#log, run.state === 'failed' ? 'warn' : 'info', { run }, `run ${word}`)
    if (channels[event].hasSubscribers) channels[event].publish({ ...run, parameters })
  }

  /** @param row nothing, if another has ended it before */
  tellFinished(row: RunRow | undefined): void {
    if (row === undefined) return
    this.tell('finished', row)
    this.#watch.tell(row)
  }
}
