import { readFileSync } from 'node:fs'
import { type Freed, type Outcome, SOON, type Subject, type Trap } from './subject.ts'

export interface Result {
  subject: Subject
  kind: 'recipe' | 'documented'
  outcome: Outcome
  /** Empty where it is in the process. */
  engineVersion: string
}

const columns: [Trap, string][] = [
  ['whole', 'all rows'],
  ['failing', 'a row fails'],
  ['killed', 'connection lost'],
  ['killedIdle', 'lost, nobody reads'],
  ['streaming', 'left while streaming'],
  ['waiting', 'left during a wait']
]

export const trapNames: Trap[] = columns.map(([trap]) => trap)

/** Undefined where there is nothing of the kind. */
export function isRight(outcome: Outcome, column: Trap): boolean | undefined {
  const found = outcome[column]
  if (found === undefined) return undefined
  if (typeof found === 'object')
    return [found.gone, found.free].every((time) => time !== null && time <= SOON)
  if (column === 'whole') return found === 'whole'
  return /^(reset|no statement|[45]\d\d\b[^,]*)$/.test(found)
}

/** Two tables in Markdown: the recipes, and what the libraries' own pages show. */
export function tables(results: Result[]): [string, string] {
  const of = (kind: Result['kind']) => results.filter((result) => result.kind === kind)
  const names = columns.map(([, name]) => name)
  const cells = ({ outcome }: Result) => columns.map(([column]) => cell(outcome[column]))
  return [
    markdown([
      ['recipe', 'version', 'tested against', ...names],
      ...of('recipe').map((result) => [
        result.subject.name,
        result.subject.packages.map(versionOf).join(', ') || `Node ${process.versions.node}`,
        `${result.subject.engine} ${result.engineVersion}`.trim(),
        ...cells(result)
      ])
    ]),
    markdown([
      ['as documented', ...names, 'trap'],
      ...of('documented').map((result) => [result.subject.name, ...cells(result), result.subject.trap])
    ])
  ]
}

function cell(found: string | Freed | undefined): string {
  if (found === undefined) return ''
  if (typeof found === 'string') return found
  return `${time(found.gone)} / ${time(found.free)}`
}

const time = (milliseconds: number | null) => (milliseconds === null ? 'never' : `${milliseconds}`)

/** What the plugin itself imports is the root's. */
const ofPlugin = ['pg-cursor', 'pg-copy-streams']

/** As the lock file has it. */
function versionOf(name: string): string {
  const lockFile = ofPlugin.includes(name) ? '../../package-lock.json' : 'package-lock.json'
  const { packages } = JSON.parse(readFileSync(new URL(lockFile, import.meta.url), 'utf8'))
  const { version } = packages[`node_modules/${name}`] as { version: string }
  return name.startsWith('pg') ? `${name} ${version}` : version
}

function markdown(rows: string[][]): string {
  const widths = (rows[0] as string[]).map((_, i) => Math.max(...rows.map((row) => `${row[i]}`.length)))
  const lines = rows.map(
    (row) => `| ${row.map((field, i) => field.padEnd(widths[i] as number)).join(' | ')} |`
  )
  lines.splice(1, 0, `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`)
  return lines.join('\n')
}

/** Rows in which two tables differ in another thing than a time. */
export function differences(kept: string, measured: string): string[] {
  const timeless = (text: string) =>
    text
      .replaceAll(/(\d+|never) \/ (\d+|never)/g, 'time')
      .replaceAll(/ +/g, ' ')
      .replaceAll(/-+/g, '-')
      .split('\n')
  const before = timeless(kept)
  return timeless(measured).filter((row) => !before.includes(row))
}
