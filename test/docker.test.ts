import { execFile } from 'node:child_process'
import { cp, glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { csvDefaults } from '../plugins/csv-export/options/options.ts'
import { temporaryFolder } from './database.ts'

const root = join(import.meta.dirname, '..')
const read = (path: string) => readFile(join(root, path), 'utf8')

/** Milliseconds of the first time that follows a name, such as `5m` or `30_000`. */
function timeAfter(name: string, text: string): number {
  const [, digits = '', unit = 'ms'] = new RegExp(`${name}[:=\\s]+([\\d_]+)(ms|s|m|h)?`).exec(text) ?? []
  const factors: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
  return Number(digits.replaceAll('_', '')) * (factors[unit] as number)
}

/** What the compose file says of one service. */
async function partOf(service: string): Promise<string> {
  const compose = await read('docker-compose.yml')
  return compose.slice(compose.indexOf(`\n  ${service}:`)).split(/\n\n/)[0] as string
}

t.test('nginx waits a little longer than the app, which can say what it waited for', async (t) => {
  const nginx = await read('docker/nginx.conf')
  const silence = timeAfter('stalledAfter', await read('routes/imports.ts'))
  const pairs: [directive: string, own: number][] = [
    ['proxy_read_timeout', csvDefaults.sourceTimeout],
    ['proxy_send_timeout', csvDefaults.sourceTimeout],
    ['send_timeout', csvDefaults.stallTimeout],
    ['client_body_timeout', silence]
  ]
  for (const [directive, own] of pairs) {
    const time = timeAfter(`(?<!_)${directive}`, nginx)
    t.ok(time > own && time <= own + 60_000, `${directive}: ${time} ms for the app's ${own} ms`)
  }
})

for (const [service, program] of Object.entries({ app: 'server.ts', worker: 'worker.ts' })) {
  t.test(`Docker waits longer for the end of the ${service} than it does itself`, async (t) => {
    const own = timeAfter('delay', await read(program))
    t.ok(own > 0 && timeAfter('stop_grace_period', await partOf(service)) > own)
    t.match(await read('Dockerfile'), new RegExp(`COPY .*\\b${program}`), 'it is in the image')
  })
}

t.test('connections are counted as the code has them, and fit into PostgreSQL', async (t) => {
  const number = async (path: string, pattern: RegExp): Promise<number> =>
    Number(pattern.exec(await read(path))?.[1])
  const receipts = await number('database/postgres-receipts.ts', /\bmax: (\d+)/)
  const pool = await number('database/postgres.ts', /\bmaxConnections = (\d+)/)
  const runs = await number('plugins/runs/index.ts', /'runs', (\d+)/)
  const downloads = await number('plugins/runs/index.ts', /'run downloads', (\d+)/)
  const queue = await number('plugins/runs/queue.ts', /\bmax: (\d+)/)
  const table = [
    ['pool', pool, 1],
    ['receipts', receipts, 0],
    ['runs', runs, runs],
    ['downloads', downloads, 0],
    ['queue', queue, queue],
    ['listening', 1, 1]
  ] as const
  const docs = await read('docs/runs.md')
  for (const [name, app, worker] of table)
    t.match(docs, new RegExp(`^\\| ${name} +\\|.*\\| +${app} +\\| +${worker} +\\|$`, 'm'), name)
  const sum = (column: 1 | 2): number => table.reduce((total, row) => total + row[column], 0)
  const [app, worker] = [sum(1), sum(2)]
  t.match(docs, new RegExp(`^\\| together +\\|.*\\| +${app} +\\| +${worker} +\\|$`, 'm'))
  const compose = await read('docker-compose.yml')
  t.match(compose, `An app takes up to ${app} of them, a worker up to ${worker}.`)
  const [, apps, workers] = /--scale app=(\d+) --scale worker=(\d+)/.exec(compose) as unknown as number[]
  t.ok(Number(apps) * app + Number(workers) * worker <= 97)
})

t.test('the image has the packages that the sample server imports', async (t) => {
  const folder = await temporaryFolder(t)
  await cp(join(root, 'package.json'), join(folder, 'package.json'))
  await promisify(execFile)(process.execPath, [join(root, 'docker/sample-packages.ts')], { cwd: folder })
  const { dependencies } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
  const imported = new Set<string>()
  for await (const path of glob('{*.ts,{routes,database,plugins}/**/*.ts}', { cwd: root })) {
    if (path === 'build.ts') continue
    // What an example in a docstring imports is its reader's.
    const code = (await read(path)).replaceAll(/\/\*\*.*?\*\/|^import type [^\n]*$/gms, '')
    for (const [, name] of code.matchAll(/(?:\bfrom |\bimport\()'((?:@[\w-]+\/)?[\w-]+)(?=['/])/g))
      imported.add(name as string)
  }
  t.same(Object.keys(dependencies).sort(), [...imported].sort())
  t.notOk(Object.values(dependencies).includes(undefined))
})
