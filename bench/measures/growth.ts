import { download } from '../clients.ts'
import { type Measure, median, megabytes } from '../measuring.ts'
import { exportUrl, memory, type Server, startNode } from '../servers.ts'
import { mixed } from '../shapes.ts'

const [small, large, huge] = [100_000, 5_000_000, 10_000_000]

async function time(server: Server, count: number): Promise<number> {
  return (await download(exportUrl(server, 'reply.csv', mixed, count))).seconds
}

/** Of a fresh server, after one download. */
async function peakMemory(count: number, way = 'reply.csv'): Promise<number> {
  await using server = await startNode('server.ts')
  await download(exportUrl(server, way, mixed, count))
  return (await memory(server)).peak
}

async function times(server: Server, count: number, runs: number): Promise<number> {
  const values: number[] = []
  for (let run = 0; run < runs; run++) values.push(await time(server, count))
  return median(values)
}

const growth: Measure = {
  name: 'growth',
  async *run(bench) {
    await using server = await startNode('server.ts')
    await times(server, small, 5)
    const seconds = await bench.times(
      { small: () => times(server, small, 10), huge: () => time(server, huge) },
      3
    )
    const [smallCost, hugeCost] = [seconds.small / small, seconds.huge / huge].map((cost) => cost * 1e6)
    yield {
      what: 'cost per row of 10,000,000 rows against that of 100,000',
      value: (hugeCost as number) / (smallCost as number),
      unit: 'x',
      goal: { atMost: 1.1 },
      detail: `${hugeCost?.toFixed(3)} µs and ${smallCost?.toFixed(3)} µs`
    }
    const base = await peakMemory(small)
    for (const [count, atMost] of [
      [large, 40],
      [huge, 30]
    ] as const) {
      const peak = await peakMemory(count)
      yield {
        what: `peak memory of ${count.toLocaleString('en')} rows less that of 100,000, in fresh servers`,
        value: (peak - base) / 1e6,
        unit: ' MB',
        goal: { atMost },
        detail: `${megabytes(peak)} and ${megabytes(base)}`
      }
    }
  }
}

const counts = [100_000, 250_000, 500_000, 1_000_000]
const buffered = 'stringify-sync and send()'

/** Rows that go out as they come, beside rows kept until all of them are there. */
const kept: Measure = {
  name: 'growth: buffered',
  async *run(bench) {
    const runs: Record<string, () => Promise<number>> = {}
    const name = (way: string, count: number) => `${way} ${count}`
    for (const way of ['reply.csv', buffered]) {
      for (const rows of counts) runs[name(way, rows)] = () => peakMemory(rows, way)
    }
    const peaks = await bench.medians(runs, 3)
    for (const way of ['reply.csv', buffered]) {
      for (const rows of counts) {
        bench.figures.peaks.push({ way, rows, bytes: peaks[name(way, rows)] as number })
      }
    }
    const most = counts.at(-1) as number
    const [ours, theirs] = [peaks[name('reply.csv', most)], peaks[name(buffered, most)]] as [number, number]
    yield {
      what: `peak memory of ${most.toLocaleString('en')} rows, in fresh servers: ${buffered} against reply.csv`,
      value: theirs / ours,
      unit: 'x',
      detail: `${megabytes(theirs)} against ${megabytes(ours)}`
    }
  }
}

export default [growth, kept]
