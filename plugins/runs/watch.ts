import type { Runs, WatchedRun } from './table/runs.ts'

export type OnRun = (run: WatchedRun | undefined) => void

/**
 * Looks after runs for those who wait for a change of theirs: one query for all of them, while there are any. A poll, as
 * LISTEN does not pass a pooler, and needs a connection that is never given back.
 */
export class RunWatch {
  readonly #runs: Pick<Runs, 'lookAt'>
  readonly #interval: number
  readonly #onError: (error: unknown) => void
  readonly #listeners = new Map<string, Set<OnRun>>()
  #timer: NodeJS.Timeout | undefined

  /** @param interval milliseconds between two looks */
  constructor(runs: Pick<Runs, 'lookAt'>, interval: number, onError: (error: unknown) => void) {
    this.#runs = runs
    this.#interval = interval
    this.#onError = onError
  }

  /**
   * @param onRun called with the run at each look; with nothing if it is gone
   * @returns stops that
   */
  watch(id: string, onRun: OnRun): () => void {
    const listeners = this.#listeners.get(id) ?? new Set()
    this.#listeners.set(id, listeners.add(onRun))
    this.#timer ??= setTimeout(this.#look, this.#interval)
    return () => {
      listeners.delete(onRun)
      if (listeners.size === 0 && this.#listeners.get(id) === listeners) this.#listeners.delete(id)
    }
  }

  /** What this process knows already, it need not look for. */
  tell(run: WatchedRun): void {
    for (const onRun of this.#listeners.get(run.id) ?? []) onRun(run)
  }

  readonly #look = async (): Promise<void> => {
    if (this.#listeners.size > 0) await this.#tellAll()
    this.#timer = this.#listeners.size > 0 ? setTimeout(this.#look, this.#interval) : undefined
  }

  async #tellAll(): Promise<void> {
    // Who comes while the answer is under way must not take it for news.
    const asked = [...this.#listeners].map(([id, listeners]) => ({ id, listeners, of: [...listeners] }))
    try {
      const runs = new Map((await this.#runs.lookAt(asked.map(({ id }) => id))).map((run) => [run.id, run]))
      for (const { id, listeners, of } of asked) {
        for (const onRun of of) if (listeners.has(onRun)) onRun(runs.get(id))
      }
    } catch (error) {
      this.#onError(error)
    }
  }
}
