import { type ChildProcess, execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { cpus } from 'node:os'
import { promisify } from 'node:util'

const run = promisify(execFile)
const rows = 1_000_000
const rounds = 5

interface Server {
  url: string
  child: ChildProcess
}

async function start(): Promise<Server> {
  const child = fork(new URL('./server.ts', import.meta.url))
  const [url] = await once(child, 'message')
  return { url, child }
}

async function stop({ child }: Server): Promise<void> {
  child.kill()
  await once(child, 'exit')
}

/** Seconds, by curl's own clock. The body is dropped in curl's process, not in this one. */
async function curl(url: string, what: 'time_total' | 'time_starttransfer'): Promise<number> {
  const { stdout } = await run('curl', ['-sS', '--fail', '-o', '/dev/null', '-w', `%{${what}}`, url])
  return Number(stdout)
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number
}

/** Runs each path in turn, round after round, so that a slow moment of the machine meets all of them. */
async function interleaved(paths: string[], count: number, measure: (path: string) => Promise<number>) {
  const values = new Map<string, number[]>(paths.map((path) => [path, []]))
  for (const path of paths) await measure(path)
  for (let round = 0; round < count; round++) {
    for (const path of paths) values.get(path)?.push(await measure(path))
  }
  return values
}

async function throughput(): Promise<boolean> {
  const server = await start()
  const paths = ['/usual', '/reply.csv']
  const times = await interleaved(paths, rounds, (path) =>
    curl(`${server.url}${path}?rows=${rows}`, 'time_total')
  )
  await stop(server)
  const [usual = [], ours = []] = paths.map((path) => times.get(path))
  const spread = Math.max(...usual) / Math.min(...usual)
  if (spread > 1.3)
    throw new Error(`the machine moved: the usual way's own times differ by ${spread.toFixed(2)}`)
  const rate = (values: number[]) => `${Math.round(rows / median(values) / 1000)} k rows/s`
  return report('rows/s of reply.csv against the usual pipeline', {
    value: median(usual) / median(ours),
    goal: 1.5,
    better: 'at least',
    unit: 'x',
    detail: `${rate(ours)} against ${rate(usual)}`
  })
}

/** Of a fresh server after one download of `count` rows. */
async function peakMemory(count: number): Promise<number> {
  const server = await start()
  await curl(`${server.url}/reply.csv?rows=${count}`, 'time_total')
  const { bytes } = (await (await fetch(`${server.url}/peak`)).json()) as { bytes: number }
  await stop(server)
  return bytes / 1e6
}

async function memory(): Promise<boolean> {
  const [small, large] = [await peakMemory(100_000), await peakMemory(5_000_000)]
  return report('peak memory of 5,000,000 rows less that of 100,000', {
    value: large - small,
    goal: 40,
    better: 'at most',
    unit: ' MB',
    detail: `${large.toFixed(1)} MB and ${small.toFixed(1)} MB`
  })
}

async function firstByte(): Promise<boolean> {
  const server = await start()
  const paths = ['/json', '/reply.csv?rows=1000']
  const times = await interleaved(paths, 51, (path) => curl(server.url + path, 'time_starttransfer'))
  await stop(server)
  const [json = 0, ours = 0] = paths.map((path) => median(times.get(path) as number[]) * 1000)
  return report('time to first byte, reply.csv less a JSON route', {
    value: ours - json,
    goal: 2,
    better: 'at most',
    unit: ' ms',
    detail: `${ours.toFixed(2)} ms and ${json.toFixed(2)} ms`
  })
}

interface Result {
  value: number
  goal: number
  better: 'at least' | 'at most'
  unit: string
  detail: string
}

function report(name: string, { value, goal, better, unit, detail }: Result): boolean {
  const reached = better === 'at least' ? value >= goal : value <= goal
  const verdict = reached ? 'reached' : 'MISSED'
  console.log(`| ${name} | ${value.toFixed(2)}${unit} | ${better} ${goal}${unit} | ${verdict} | ${detail} |`)
  return reached
}

const cpu = cpus()
console.log(
  `Node ${process.version}, ${cpu.length} x ${cpu[0]?.model}; medians of ${rounds} interleaved runs of ${rows} rows\n`
)
console.log('| what | measured | goal | | medians |\n|---|---|---|---|---|')
const results = [await throughput(), await memory(), await firstByte()]
process.exitCode = results.every(Boolean) ? 0 : 1
