import type { Figures } from './chart.ts'
import { download } from './clients.ts'
import { exportUrl, type Server, startNode } from './servers.ts'
import { mixed } from './shapes.ts'

/** A line of the table. */
export interface Result {
  what: string
  /** Undefined if this machine lacks what it takes. */
  value?: number
  unit: string
  goal?: { atLeast: number } | { atMost: number }
  detail: string
}

/** Some lines of the table that are measured together; `npm run bench -- NAME` runs those whose name starts so. */
export interface Measure {
  name: string
  run(bench: Bench): AsyncGenerator<Result>
}

/** The control's own times say that something else used the machine. */
export class MachineMoved extends Error {}

const mostRounds = 10
const tolerance = 0.15

/** Runs what is compared in turn, and sees that the machine stays the same meanwhile. */
export class Bench implements AsyncDisposable {
  readonly #control: Server
  readonly #rounds: number | undefined
  /** What stands below the table. */
  readonly notes: string[] = []
  /** What the chart shows. */
  readonly figures: Figures = { rates: [], peaks: [] }

  private constructor(control: Server, rounds: number | undefined) {
    this.#control = control
    this.#rounds = rounds
  }

  /** @param rounds in the place of each measure's own number of them */
  static async start(rounds?: number): Promise<Bench> {
    const bench = new Bench(await startNode('server.ts'), rounds)
    for (let run = 0; run < 3; run++) await bench.#controlTime()
    return bench
  }

  /**
   * The median of each, after one run to warm up. A slow moment of the machine meets all of a round alike; a round that
   * starts or ends with a control far from the control's median is dropped, and another one run in its place.
   *
   * @throws MachineMoved when too few rounds are left
   */
  async medians<Name extends string>(
    runs: Record<Name, () => Promise<number>>,
    usualRounds = 5
  ): Promise<Record<Name, number>> {
    const rounds = this.#rounds ?? usualRounds
    const names = Object.keys(runs) as Name[]
    for (const name of names) await runs[name]()
    const controls = [await this.#controlTime()]
    const values: Record<Name, number>[] = []
    let kept = values
    while (kept.length < rounds && values.length < Math.max(mostRounds, rounds * 2)) {
      const round = {} as Record<Name, number>
      for (const name of names) round[name] = await runs[name]()
      values.push(round)
      controls.push(await this.#controlTime())
      const usual = median(controls)
      const quiet = controls.map((time) => Math.abs(time / usual - 1) <= tolerance)
      kept = values.filter((_, index) => quiet[index] && quiet[index + 1])
    }
    if (kept.length < rounds) {
      const [least, most] = [Math.min(...controls), Math.max(...controls)].map((time) => time.toFixed(2))
      throw new MachineMoved(
        `${kept.length} of ${values.length} rounds were quiet: the control took ${least} to ${most} s`
      )
    }
    return Object.fromEntries(
      names.map((name) => [name, median(kept.map((round) => round[name]))])
    ) as Record<Name, number>
  }

  /** Of the work that everything is compared with. */
  async #controlTime(): Promise<number> {
    const { seconds } = await download(exportUrl(this.#control, 'the usual pipeline', mixed, 60_000))
    return seconds
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#control[Symbol.asyncDispose]()
  }
}

export function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number
}

export function isReached({ value, goal }: Result): boolean {
  if (value === undefined || goal === undefined) return true
  return 'atLeast' in goal ? value >= goal.atLeast : value <= goal.atMost
}

/** As a row of a Markdown table. */
export function line(result: Result): string {
  const { what, value, unit, goal, detail } = result
  const wanted =
    goal && ('atLeast' in goal ? `at least ${goal.atLeast}${unit}` : `at most ${goal.atMost}${unit}`)
  const verdict = value === undefined ? 'not measured' : !goal ? '' : isReached(result) ? 'reached' : 'MISSED'
  const measured = value === undefined ? '' : `${value.toFixed(2)}${unit}`
  return `| ${[what, measured, wanted ?? '', verdict, detail].join(' | ')} |`
}

export const rate = (rows: number, seconds: number): string => `${Math.round(rows / seconds / 1000)} k rows/s`

export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
