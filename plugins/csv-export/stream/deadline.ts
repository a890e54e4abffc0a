/** A wait that may last only so long. 0 milliseconds are no limit. */
export class Deadline {
  readonly #milliseconds: number
  readonly #onMissed: () => void
  #timer: NodeJS.Timeout | undefined

  constructor(milliseconds: number, onMissed: () => void) {
    this.#milliseconds = milliseconds
    this.#onMissed = onMissed
  }

  /** Begins the wait; one that has begun goes on. */
  start(): void {
    if (this.#milliseconds === 0) return
    this.#timer ??= setTimeout(this.#onMissed, this.#milliseconds)
  }

  /** Begins the wait; one that has begun begins anew. */
  restart(): void {
    if (this.#timer === undefined) this.start()
    else this.#timer.refresh()
  }

  stop(): void {
    if (this.#timer === undefined) return
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
