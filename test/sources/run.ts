/** `node test/sources/run.ts` measures all recipes, `--write` writes docs/sources.md's tables; names measure a few. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { Engine } from './engines/engine.ts'
import { startMariaDb } from './engines/mariadb.ts'
import { startPostgres } from './engines/postgres.ts'
import type { EngineName, Outcome, Subject } from './subject.ts'
import { subjects } from './subjects.ts'
import { differences, isRight, type Result, tables, trapNames } from './table.ts'

const { values: options, positionals: names } = parseArgs({
  options: { write: { type: 'boolean', default: false } },
  allowPositionals: true
})
const page = new URL('../../docs/sources.md', import.meta.url)
const chosen = subjects.filter(({ name }) => names.length === 0 || names.includes(name))
async function main(): Promise<string[]> {
  const engines: Partial<Record<EngineName, Engine>> = {}
  const starts = { PostgreSQL: startPostgres, MariaDB: startMariaDb }
  try {
    for (const [engine, start] of Object.entries(starts) as [keyof typeof starts, () => Promise<Engine>][]) {
      if (chosen.some((subject) => subject.engine === engine)) engines[engine] = await start()
    }
    const results: Result[] = []
    // One after another, as times are measured.
    for (const subject of chosen) {
      for (const kind of ['recipe', 'documented'] as const) {
        if (subject[kind] === undefined) continue
        const engine = engines[subject.engine]
        const outcome = await measureOne(subject, kind, engine?.url ?? '')
        console.log(subject.name, kind, JSON.stringify(outcome))
        results.push({ subject, kind, outcome, engineVersion: engine?.version ?? '' })
      }
    }
    const problems = results.flatMap(problemsOf)
    return problems.length > 0 || names.length > 0 ? problems : keep(tables(results))
  } finally {
    await Promise.all(Object.values(engines).map((engine) => engine.stop()))
  }
}

async function measureOne(subject: Subject, kind: Result['kind'], url: string): Promise<Outcome> {
  const child = fork(new URL('one.ts', import.meta.url), [subject.name, kind, url], {
    // What a trap writes is no news.
    stdio: ['ignore', 'inherit', kind === 'recipe' ? 'inherit' : 'ignore', 'ipc']
  })
  let outcome: Outcome | undefined
  child.on('message', (message) => {
    outcome = message as Outcome
  })
  const [code] = await once(child, 'exit')
  if (outcome === undefined) throw new Error(`${subject.name}, ${kind}: no outcome, exit status ${code}`)
  return outcome
}

/** A recipe is right in all things; the documented way is wrong where a trap is said to be. */
function problemsOf({ subject, kind, outcome }: Result): string[] {
  const { name, traps, limits = [] } = subject
  return trapNames.flatMap((trap) => {
    const found = JSON.stringify(outcome[trap])
    const right = isRight(outcome, trap)
    if (kind === 'documented') {
      return right === true && traps.includes(trap)
        ? [`${name} as documented, ${trap}: no trap: ${found}`]
        : []
    }
    if (right === limits.includes(trap)) return [`${name}, ${trap}: ${found}`]
    return []
  })
}

const markers = (name: string) => [`<!-- ${name} -->\n`, `\n<!-- /${name} -->`] as const

/** Reads or writes what stands between the markers. */
function keep([recipes, documented]: [string, string]): string[] {
  let text = readFileSync(page, 'utf8')
  const problems: string[] = []
  for (const [name, table] of Object.entries({ recipes, documented })) {
    const [begin, end] = markers(name)
    const [before = '', rest = ''] = text.split(begin)
    const [kept = '', after = ''] = rest.split(end)
    problems.push(...differences(kept, table).map((row) => `docs/sources.md has no row ${row}`))
    text = before + begin + table + end + after
  }
  if (!options.write) return problems
  writeFileSync(page, text)
  return []
}

// Else its servers would outlive it.
process.once('SIGTERM', () => process.exit(1))

const problems = await main()
for (const problem of problems) console.error(problem)
console.log(`${chosen.length} recipes, ${problems.length} problems`)
process.exitCode = problems.length > 0 ? 1 : 0
