import { type Cell, cells, type Path, type Protocol, paths, protocols } from './cells.ts'
import { clients } from './clients.ts'
import type { Outcome } from './download.ts'
import { control, scenarios } from './scenarios.ts'

const skipped = 'skipped'

/** A Markdown table: what each client reported on each protocol and path. */
export function table(outcomes: Outcome[]): string {
  const rows = [
    ['protocol', 'path', ...clients.map(({ name }) => name)],
    ...protocols.flatMap((protocol) => paths.map((path) => row(protocol, path, outcomes)))
  ]
  const widths = (rows[0] as string[]).map((_, i) => Math.max(...rows.map((fields) => `${fields[i]}`.length)))
  const lines = rows.map((fields) => line(fields.map((field, i) => field.padEnd(widths[i] as number))))
  lines.splice(1, 0, line(widths.map((width) => '-'.repeat(width))))
  return lines.join('\n')
}

const line = (fields: string[]) => `| ${fields.join(' | ')} |`

function row(protocol: Protocol, path: Path, outcomes: Outcome[]): string[] {
  return [
    protocol.name,
    path.name,
    ...clients.map((client) => {
      const isCell = (cell: Cell) =>
        cell.protocol === protocol && cell.path === path && cell.client === client
      if (!cells.some(isCell)) return ''
      const failures = outcomes.filter(({ cell, scenario }) => isCell(cell) && scenario !== control)
      return summary(failures.sort((a, b) => scenarios.indexOf(a.scenario) - scenarios.indexOf(b.scenario)))
    })
  ]
}

/** One report if all scenarios had the same, else each with its scenarios. */
function summary(outcomes: Outcome[]): string {
  const reports = Map.groupBy(outcomes, ({ report }) => report)
  if (reports.size === 0) return skipped
  if (reports.size === 1) return [...reports.keys()].join()
  return [...reports]
    .map(([report, same]) => `${report}: ${same.map(({ scenario }) => scenario.name).join(', ')}`)
    .join('; ')
}

/** Cells in which two tables differ about what is seen. How a client words it may differ from one version to the next. */
export function differences(kept: string, measured: string): string[] {
  const keptLines = kept.trim().split('\n')
  return measured.split('\n').flatMap((text, index) => {
    const keptFields = fields(keptLines[index] ?? '')
    return fields(text).flatMap((field, column, [protocol, path]) => {
      const before = keptFields[column] ?? ''
      if (field === skipped || seen(before) === seen(field)) return []
      return `${protocol}, ${path}: kept is "${before}", measured was "${field}"`
    })
  })
}

const fields = (text: string) =>
  text
    .split('|')
    .slice(1, -1)
    .map((field) => field.trim())

/** What is not seen, if anything. */
const seen = (field: string) => /not seen[^;]*/.exec(field)?.[0] ?? field !== ''
