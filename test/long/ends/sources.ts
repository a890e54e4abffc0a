import { once } from 'node:events'
import { Readable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import type { SourceContext, SourceInput } from '../../../plugins/csv-export/index.ts'
import { values } from '../../attacks/subjects/values.ts'
import { type Row, rowOf } from './file.ts'
import type { Asked } from './plans.ts'

/** The exports whose source has begun, and has not ended or been let go. */
export const openSources = new Set<string>()

export function thrownOf({ value }: Asked): unknown {
  return value === 'a string' ? 'thrown' : values[value]?.()
}

/** What comes next, for whatever shape gives it. */
class Steps {
  readonly #asked: Asked
  readonly #onGiven: () => void
  #index = 0
  #isGiven = false
  #isOver = false

  /** @param onGiven called when the rows have been given, before what comes then */
  constructor(asked: Asked, onGiven: () => void) {
    this.#asked = asked
    this.#onGiven = onGiven
    openSources.add(asked.id)
  }

  /** The next row; undefined if there is none now, and for good, unless what comes then is to wait. */
  next(): Row | undefined {
    const { rows, then } = this.#asked
    if (this.#index === rows && !this.#isGiven) {
      this.#isGiven = true
      this.#onGiven()
    }
    if (this.#index >= rows && then !== 'go on') {
      if (then === 'wait') return undefined
      this.#over()
      if (then === 'throw') throw thrownOf(this.#asked)
      return undefined
    }
    return rowOf(this.#index++)
  }

  /** Whether a source that waits now and then does so here. */
  get isPauseDue(): boolean {
    const { pause, rows, then } = this.#asked
    // Long enough for what was given to be sent.
    return (pause !== 0 && this.#index % pause === 0) || (then === 'throw' && this.#index === rows)
  }

  get isWaiting(): boolean {
    return !this.#isOver && this.#asked.then === 'wait' && this.#index >= this.#asked.rows
  }

  /** Let go. @returns what a clean-up throws or rejects with */
  release(): unknown {
    if (this.#isOver) return undefined
    this.#over()
    const { release } = this.#asked
    if (release === 'quiet') return undefined
    const thrown = thrownOf(this.#asked)
    if (release === 'throws') throw thrown
    return Promise.reject(thrown)
  }

  #over(): void {
    this.#isOver = true
    openSources.delete(this.#asked.id)
  }
}

type Make = (asked: Asked, onGiven: () => void, context: SourceContext) => SourceInput<any>

const rowsPerBatch = 100

const shapes: Record<Asked['shape'], Make> = {
  *generator(asked, onGiven) {
    const steps = new Steps(asked, onGiven)
    try {
      for (let row = steps.next(); row !== undefined; row = steps.next()) yield row
    } finally {
      Promise.resolve(steps.release()).catch(() => {})
    }
  },

  *batches(asked, onGiven) {
    const steps = new Steps(asked, onGiven)
    try {
      for (const batch of batchesOf(steps)) {
        for (let empty = 0; empty < asked.emptyBatches; empty++) yield []
        yield batch
      }
    } finally {
      Promise.resolve(steps.release()).catch(() => {})
    }
  },

  async *'async generator'(asked, onGiven, { signal }) {
    const steps = new Steps(asked, onGiven)
    try {
      for (let row = steps.next(); row !== undefined; row = steps.next()) {
        yield row
        if (steps.isPauseDue) await turn()
      }
      if (steps.isWaiting && !signal.aborted) await once(signal, 'abort')
    } finally {
      await steps.release()
    }
  },

  async *'async batches'(asked, onGiven, { signal }) {
    const steps = new Steps(asked, onGiven)
    try {
      for (const batch of batchesOf(steps)) {
        for (let empty = 0; empty < asked.emptyBatches; empty++) yield []
        yield batch
        if (asked.pause !== 0 || asked.then === 'throw') await turn()
      }
      if (steps.isWaiting && !signal.aborted) await once(signal, 'abort')
    } finally {
      await steps.release()
    }
  },

  // Its `return()` may come, and is done, while its `next()` is pending.
  iterator(asked, onGiven) {
    const steps = new Steps(asked, onGiven)
    let onReturn: (step: { done: true; value: undefined }) => void = () => {}
    return {
      [Symbol.asyncIterator]: () => ({
        async next() {
          if (steps.isPauseDue) await turn()
          const value = steps.next()
          if (value !== undefined) return { done: false, value }
          if (!steps.isWaiting) return { done: true, value }
          return new Promise((resolve) => {
            onReturn = resolve
          })
        },
        return() {
          onReturn({ done: true, value: undefined })
          return (steps.release() ?? Promise.resolve({ done: true })) as Promise<never>
        }
      })
    }
  },

  stream(asked, onGiven) {
    const steps = new Steps(asked, onGiven)
    return new Readable({
      objectMode: true,
      async read() {
        if (steps.isPauseDue) await turn()
        try {
          const row = steps.next()
          if (row !== undefined || !steps.isWaiting) this.push(row ?? null)
        } catch (error) {
          failStream(this, error)
        }
      },
      destroy(error, callback) {
        Promise.resolve(attempt(() => steps.release())).catch(() => {})
        callback(error)
      }
    })
  },

  'web stream'(asked, onGiven) {
    const steps = new Steps(asked, onGiven)
    return new ReadableStream({
      async pull(controller) {
        if (steps.isPauseDue) await turn()
        const row = steps.next()
        if (row !== undefined) controller.enqueue(row)
        else if (!steps.isWaiting) controller.close()
        else await new Promise(() => {})
      },
      cancel: () => steps.release() as undefined
    }) as SourceInput<Row>
  }
}

function* batchesOf(steps: Steps): Generator<Row[]> {
  for (;;) {
    const batch: Row[] = []
    try {
      for (let row = steps.next(); row !== undefined; row = steps.next()) {
        batch.push(row)
        if (batch.length === rowsPerBatch) break
      }
    } catch (thrown) {
      if (batch.length > 0) yield batch
      throw thrown
    }
    if (batch.length > 0) yield batch
    if (batch.length < rowsPerBatch) return
  }
}

/** Node cannot take everything for the error of a stream. */
function failStream(stream: Readable, error: unknown): void {
  attempt(() => stream.destroy(error as Error))
  if (!stream.errored) stream.destroy(new Error('failed'))
}

function attempt(call: () => unknown): unknown {
  try {
    return call()
  } catch {
    return undefined
  }
}

/** The rows of an export. @param onGiven called when those before its end have been given */
export function sourceOf(asked: Asked, onGiven: () => void): SourceInput<any> {
  return (context) => shapes[asked.shape](asked, onGiven, context) as never
}

export const isInBatches = ({ shape }: Asked): boolean => shape.endsWith('batches')
