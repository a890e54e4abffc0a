import type { Figures } from './chart.ts'

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

/** What is run between any two others did not take the same time on both sides: something else used the machine. */
export class MachineMoved extends Error {}

const tolerance = 0.15
const usualRounds = 5
/** A pair whose machine moved is measured again, in another round. */
const mostRounds = 4

export class Bench {
  readonly #rounds: number | undefined
  /** What stands below the table. */
  readonly notes: string[] = []
  /** What the chart shows. */
  readonly figures: Figures = { rates: [], peaks: [] }

  /** @param rounds in the place of each measure's own number of them */
  constructor(rounds?: number) {
    this.#rounds = rounds
  }

  /** Of each, run in turn, after one run to warm up: for what a slow moment of the machine cannot make better. */
  async medians<Name extends string>(
    runs: Record<Name, () => Promise<number>>,
    rounds = 5
  ): Promise<Record<Name, number>> {
    const values = entriesOf(runs).map(([name, run]) => ({ name, run, found: [] as number[] }))
    for (const { run } of values) await run()
    for (let round = 0; round < (this.#rounds ?? rounds); round++) {
      for (const { run, found } of values) found.push(await run())
    }
    return fromEntries(values.map(({ name, found }) => [name, median(found)]))
  }

  /**
   * Of each, after one run to warm up, how long it takes. The first, which all others are compared with, runs before and after each
   * run of these, so that a slow time of the machine meets both. Where its two times differ by more than 15 %, the machine moved,
   * and that pair does not count. The ratio of two is the median of their pairs.
   *
   * @throws MachineMoved when too few pairs count
   */
  async times<Name extends string>(
    runs: Record<Name, () => Promise<number>>,
    rounds = this.#rounds ?? usualRounds
  ): Promise<Record<Name, number>> {
    const [[firstName, first], ...rest] = entriesOf(runs) as [[Name, () => Promise<number>]]
    const others = (rest as [Name, () => Promise<number>][]).map(([name, run]) => {
      return { name, run, ratios: [] as number[] }
    })
    for (const { run } of [{ run: first }, ...others]) await run()
    const firstTimes = [await first()]
    for (let round = 0; round < rounds * mostRounds; round++) {
      for (const { run, ratios } of others.filter(({ ratios }) => ratios.length < rounds)) {
        const before = firstTimes.at(-1) as number
        const time = await run()
        const after = await first()
        firstTimes.push(after)
        const mean = (before + after) / 2
        if (Math.abs(before - after) <= tolerance * mean) ratios.push(time / mean)
      }
    }
    const moved = others.find(({ ratios }) => ratios.length < rounds)
    if (moved !== undefined) {
      const [least, most] = [Math.min(...firstTimes), Math.max(...firstTimes)]
      const times = `${firstName} took ${least.toPrecision(2)} to ${most.toPrecision(2)} s`
      throw new MachineMoved(`${moved.ratios.length} pairs with ${moved.name} count: ${times}`)
    }
    const usual = median(firstTimes)
    return fromEntries([
      [firstName, usual],
      ...others.map(({ name, ratios }) => [name, usual * median(ratios)] as [Name, number])
    ])
  }
}

const entriesOf = <Name extends string, T>(record: Record<Name, T>) => Object.entries(record) as [Name, T][]
const fromEntries = <Name extends string>(entries: [Name, number][]) =>
  Object.fromEntries(entries) as Record<Name, number>

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
