import { django, go, ours, type Pair, race } from '../contestants.ts'
import { type Measure, type Result, rate } from '../measuring.ts'
import { fresh, longText, mixed, narrow, nonAscii, type Shape, wide } from '../shapes.ts'

const usual = 'the usual pipeline'
const floor = 'the floor, rows not encoded'

/** Of what has no goal, the ratio is to be known: ready Buffers cannot be reached. */
type Goals = Record<string, number | undefined>

/** No shape is slower than any peer. */
const even: Goals = {
  [usual]: 1,
  'fast-csv': 1,
  papaparse: 1,
  '@json2csv/node': 1,
  'csv-stringify, batches joined': 1,
  'ready Buffers': undefined
}

const mixedGoals: Goals = { ...even, 'fast-csv': 2, papaparse: 2, '@json2csv/node': 2, [floor]: 0.5 }

function measure(shape: Shape, goals: Goals, more: Pair[] = []): Measure {
  const pairs = [...Object.entries(goals).map(([peer, atLeast]) => ({ way: ours, peer, atLeast })), ...more]
  return {
    name: `generator: ${shape.name}`,
    async *run(bench) {
      const seconds = await race(bench, shape, pairs)
      for (const [way, time] of Object.entries(seconds)) {
        bench.figures.rates.push({ shape: shape.name, way, rowsPerSecond: shape.rows / time })
      }
      for (const pair of pairs) yield resultOf(shape, pair, seconds)
    }
  }
}

function resultOf(shape: Shape, { way, peer, atLeast }: Pair, seconds: Record<string, number>): Result {
  const [time, peerTime] = [seconds[way] as number, seconds[peer]]
  const about = {
    what: `${shape.name}: rows/s of ${way} against ${peer}`,
    unit: 'x',
    ...(atLeast !== undefined && { goal: { atLeast } })
  }
  if (peerTime === undefined) return { ...about, detail: 'not on this machine' }
  const detail = `${rate(shape.rows, time)} against ${rate(shape.rows, peerTime)}`
  return { ...about, value: peerTime / time, detail }
}

export default [
  measure(mixed, { ...mixedGoals, [usual]: 5.5, [go]: 1.3, [django]: 6 }, [
    { way: 'reply.csv, rows in batches', peer: go, atLeast: 1.5 },
    { way: "reply.csv, formulas: 'escape'", peer: ours, atLeast: 0.85 }
  ]),
  measure(fresh, { ...mixedGoals, [usual]: 6.5, 'fast-csv': 4.5, [go]: 1 }),
  measure(narrow, { ...even, [usual]: 5.5 }),
  measure(wide, { ...even, [usual]: 6 }),
  measure(longText, { ...even, [usual]: 2.3 }),
  measure(nonAscii, { ...even, [usual]: 4.2 })
]
