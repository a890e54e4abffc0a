import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { charts } from './chart.ts'
import { clients, clientsOfRuns } from './measures/clients.ts'
import generator from './measures/generator.ts'
import growth from './measures/growth.ts'
import gzip from './measures/gzip.ts'
import json from './measures/json.ts'
import postgres from './measures/postgres.ts'
import { cost, workers } from './measures/runs.ts'
import small from './measures/small.ts'
import stalled from './measures/stalled.ts'
import { Bench, isReached, line, MachineMoved, type Measure } from './measuring.ts'

const measures: Measure[] = [
  ...generator,
  postgres,
  gzip,
  ...small,
  ...growth,
  stalled,
  clients,
  cost,
  workers,
  clientsOfRuns,
  ...json
]

function version(command: string, ...args: string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return undefined
  }
}

const { values: options, positionals: wanted } = parseArgs({
  options: { write: { type: 'boolean', default: false }, rounds: { type: 'string' } },
  allowPositionals: true
})
const chosen = measures.filter(
  ({ name }) => wanted.length === 0 || wanted.some((start) => name.startsWith(start))
)
if (chosen.length === 0) {
  console.error(`no measure is called so; there are:\n${measures.map(({ name }) => name).join('\n')}`)
  process.exit(1)
}
// So that the servers end too.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

const cpu = cpus()
const printed: string[] = []
function print(text: string): void {
  console.log(text)
  printed.push(text)
}

const machine = [
  `${cpu.length} x ${cpu[0]?.model}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
  `Node ${process.versions.node}`,
  version('go', 'version')?.replace(/go version go(\S+).*/, 'Go $1'),
  version('gunicorn', '--version')?.replace(/\W*version (\S+?)\W*$/, ' $1'),
  version('psql', '--version')?.replace(/psql \(PostgreSQL\) (\S+).*/, 'psql $1')
]
  .filter(Boolean)
  .join(', ')
print(machine)
print('\n| what | measured | goal | | medians |\n| --- | --- | --- | --- | --- |')

const bench = new Bench(options.rounds === undefined ? undefined : Number(options.rounds))
for (const measure of chosen) {
  try {
    for await (const result of measure.run(bench)) {
      print(line(result))
      if (!isReached(result)) process.exitCode = 1
    }
  } catch (error) {
    if (!(error instanceof MachineMoved)) throw error
    print(`| ${measure.name} | | | REJECTED | ${error.message} |`)
    process.exitCode = 1
  }
}
for (const note of bench.notes) print(`\n${note}`)
if (options.write) {
  const page = new URL('../docs/performance-table.md', import.meta.url)
  const about =
    '`npm run bench:table` writes this page; [performance.md](performance.md) says what is measured, and how.'
  writeFileSync(page, `# Results of the bench\n\n${about}\n\n${printed.join('\n')}\n`)
  for (const [name, svg] of charts(bench.figures, machine)) {
    writeFileSync(new URL(`../docs/${name}`, import.meta.url), svg)
  }
}
