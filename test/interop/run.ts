import { readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { type Cell, cannotBeSeen, cellName, cells } from './cells.ts'
import { clients, type Program, versionOf } from './clients.ts'
import { type Outcome, run } from './download.ts'
import { control, scenarios } from './scenarios.ts'
import { makeCertificate, startNginx } from './servers.ts'
import { differences, table } from './table.ts'

const { values: options } = parseArgs({ options: { write: { type: 'boolean', default: false } } })
const page = new URL('../../docs/failures-table.md', import.meta.url)
const markers = ['<!-- interop -->\n', '\n<!-- /interop -->'] as const

const nginx: Program = { name: 'nginx', version: ['nginx', '-v'], package: 'nginx-light' }
const openssl: Program = { name: 'openssl', version: ['openssl', 'version'], package: 'openssl' }
const programs = [...clients.map(({ program }) => program), nginx, openssl]
const versions = new Map(programs.map((program) => [program, versionOf(program)]))
const missing = programs.filter((program) => versions.get(program) === undefined)

function needed({ protocol, path, client }: Cell): Program[] {
  return [
    client.program,
    ...(path.nginx === undefined ? [] : [nginx]),
    ...(protocol.listener === 'tls' ? [openssl] : [])
  ]
}

async function measure(): Promise<Outcome[]> {
  const certificate = missing.includes(openssl) ? undefined : makeCertificate()
  const proxy = missing.includes(nginx) ? undefined : await startNginx(certificate)
  const runnable = cells.filter((cell) => !needed(cell).some((program) => missing.includes(program)))
  const queue = runnable.flatMap((cell) => scenarios.map((scenario) => ({ cell, scenario })))
  const outcomes: Outcome[] = []
  // Clients wait more than they compute.
  const workers = Array.from({ length: 2 * availableParallelism() }, async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      outcomes.push(await run(next.cell, next.scenario, { certificate, nginx: proxy }))
    }
  })
  try {
    await Promise.all(workers)
  } finally {
    await proxy?.stop()
    certificate?.remove()
  }
  return outcomes
}

/** Reads or writes what stands between the markers. */
function keep(text: string): string[] {
  const [before = '', rest = ''] = readFileSync(page, 'utf8').split(markers[0])
  const [kept = '', after = ''] = rest.split(markers[1])
  if (!options.write) return differences(kept.slice(kept.indexOf('|')), text)
  const names = [...versions].map(([{ name }, version]) => `${name} ${version}`).join(', ')
  const section = `Measured with ${names}.\n\n${text}`
  writeFileSync(page, before + markers[0] + section + markers[1] + after)
  return []
}

for (const program of missing) {
  const lost = cells.filter((cell) => needed(cell).includes(program)).length
  console.log(
    `${program.name} is missing (Debian package ${program.package}): ${lost} of ${cells.length} cells are skipped`
  )
}

const outcomes = await measure()
const text = table(outcomes)
console.log(`${text}\n`)
console.log(`${outcomes.length} downloads: ${scenarios.map(({ name }) => name).join(', ')}`)

for (const { cell, scenario, report, problems } of outcomes) {
  if (scenario === control || problems.length > 0 || !cannotBeSeen(cell) || report.startsWith('not seen'))
    continue
  console.log(`${cellName(cell)}: ${scenario.name}: was thought not to be seen, but is: ${report}`)
}

const problems = outcomes.flatMap(({ cell, scenario, problems }) =>
  problems.map((problem) => `${cellName(cell)}: ${scenario.name}: ${problem}`)
)
if (missing.length > 0 && (process.env.CI === 'true' || options.write)) {
  problems.push('a program is missing: see above')
}
if (problems.length === 0)
  problems.push(...keep(text).map((difference) => `docs/failures-table.md: ${difference}`))
for (const problem of problems) console.error(problem)
process.exitCode = problems.length > 0 ? 1 : 0
