import type { Run } from '../../plugins/runs/index.ts'
import { download } from '../clients.ts'
import type { Bench, Measure, Result } from '../measuring.ts'
import { RunsSite, secondsBetween } from '../runs-site.ts'
import type { Server } from '../servers.ts'

const rows = 1_000_000
const backlog = 12
const rowsOfBacklog = 200_000

export const cost: Measure = {
  name: 'runs: cost',
  async *run(bench) {
    await using site = await RunsSite.start(rows)
    yield* costOf(bench, site)
  }
}

export const workers: Measure = {
  name: 'runs: workers',
  async *run(bench) {
    await using site = await RunsSite.start(rowsOfBacklog + 1_000)
    yield await workersOf(bench, site)
  }
}

/** Of a run, and of its file. */
async function* costOf(bench: Bench, site: RunsSite): AsyncGenerator<Result> {
  await using server = await site.startServer('server.ts')
  let latest: Run | undefined
  const run = async () => {
    if (latest !== undefined) await site.remove(server, latest)
    const started = performance.now()
    latest = await site.ended(server, await site.makeRun(server, rows))
    // Its reader looks now and then.
    const { startedAt, finishedAt } = latest
    return Math.min((performance.now() - started) / 1000, secondsBetween(startedAt, finishedAt))
  }
  await run()
  const times = await bench.times({
    reply: async () => (await download(`${server.url}/reports/cargoes.csv`)).seconds,
    run,
    kept: async () => (await download(`${server.url}${latest?.result?.href}`)).seconds
  })
  const detail = (seconds: number) => `${seconds.toFixed(2)} s against ${times.reply.toFixed(2)} s`
  yield {
    what: `a run of ${rows} cargoes: its time against reply.csv`,
    value: times.run / times.reply,
    unit: 'x',
    goal: { atMost: 1.5 },
    detail: detail(times.run)
  }
  yield {
    what: 'a download of its kept file: its time against reply.csv',
    value: times.kept / times.reply,
    unit: 'x',
    goal: { atMost: 0.5 },
    detail: detail(times.kept)
  }
}

/** Of two cores, one worker and its database leave less than one free. */
async function workersOf(bench: Bench, site: RunsSite): Promise<Result> {
  await using server = await site.startServer('bench/runs-server.ts')
  const { one, three } = await bench.times({
    one: () => drain(site, server, 1),
    three: () => drain(site, server, 3)
  })
  return {
    what: `3 workers on ${backlog} runs of ${rowsOfBacklog} cargoes: their speed against 1`,
    value: one / three,
    unit: 'x',
    goal: { atLeast: 1.2 },
    detail: `${three.toFixed(2)} s against ${one.toFixed(2)} s`
  }
}

/** Seconds until so many workers have made all of the runs that are asked for at once. */
async function drain(site: RunsSite, server: Server, count: number): Promise<number> {
  await using cleanUp = new AsyncDisposableStack()
  for (const worker of await Promise.all(
    Array.from({ length: count }, () => site.startServer('worker.ts'))
  )) {
    cleanUp.use(worker)
  }
  const asked = await Promise.all(Array.from({ length: backlog }, () => site.makeRun(server, rowsOfBacklog)))
  const ended = await Promise.all(asked.map((run) => site.ended(server, run)))
  await Promise.all(ended.map((run) => site.remove(server, run)))
  const first = ended.map(({ createdAt }) => createdAt).sort()[0] as string
  const last = ended.map(({ finishedAt }) => finishedAt as string).sort()[backlog - 1] as string
  return secondsBetween(first, last)
}
