import { execFileSync } from 'node:child_process'
import { cpus, release, totalmem } from 'node:os'
import clients from './measures/clients.ts'
import generator from './measures/generator.ts'
import growth from './measures/growth.ts'
import gzip from './measures/gzip.ts'
import json from './measures/json.ts'
import languages from './measures/languages.ts'
import postgres from './measures/postgres.ts'
import { Bench, isReached, line, MachineMoved, type Measure } from './measuring.ts'

const measures: Measure[] = [...generator, ...languages, postgres, gzip, growth, clients, ...json]

function version(command: string, ...args: string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return undefined
  }
}

const wanted = process.argv.slice(2)
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
console.log(
  [
    `${cpu.length} x ${cpu[0]?.model}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    `Linux ${release()}`,
    `Node ${process.version}`,
    version('go', 'version')?.replace(/go version go(\S+).*/, 'Go $1'),
    version('gunicorn', '--version')?.replace(/\W*version (\S+?)\W*$/, ' $1'),
    version('psql', '--version')?.replace(/psql \(PostgreSQL\) (\S+).*/, 'psql $1')
  ]
    .filter(Boolean)
    .join(', ')
)
console.log('\n| what | measured | goal | | medians |\n| --- | --- | --- | --- | --- |')

await using bench = await Bench.start()
for (const measure of chosen) {
  try {
    for await (const result of measure.run(bench)) {
      console.log(line(result))
      if (!isReached(result)) process.exitCode = 1
    }
  } catch (error) {
    if (!(error instanceof MachineMoved)) throw error
    console.log(`| ${measure.name} | | | REJECTED | ${error.message} |`)
    process.exitCode = 1
  }
}
for (const note of bench.notes) console.log(`\n${note}`)
