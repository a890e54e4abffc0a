import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { runsOptions } from '../../../plugins/runs/options.ts'
import { printed } from '../../clients.ts'
import { serveApp, startDatabase, temporaryFolder } from '../../database.ts'

const root = join(import.meta.dirname, '../../..')
const docs = await readFile(join(root, 'docs/runs.md'), 'utf8')
const databaseUrl = await startDatabase(t, { rows: 2_000 })

const blocks = [...docs.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block as string)
/** Their lines are run elsewhere, or need the network. */
const isOther = (block: string): boolean => /^npm install|npm run worker/m.test(block)

t.test('the lines of docs/runs.md work when they are pasted into a shell, in their order', async (t) => {
  const { url } = await serveApp(t, databaseUrl)
  const script = blocks.filter((block) => !isOther(block)).join('')
  const shell = spawn('bash', ['-e'], { cwd: await temporaryFolder(t), stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = script
    .replaceAll('localhost:3000', new URL(url).host)
    .replaceAll('node examples/', `'${process.execPath}' '${root}'/examples/`)
  shell.stdin.end(`set -o pipefail\ncurl() { command curl -sS "$@"; }\n${lines}`)
  const [output, [code]] = await Promise.all([text(shell.stdout), once(shell, 'close')])
  t.equal(code, 0, output)
  const expected = [
    /"state":"succeeded"/,
    /^cargoes\.csv: OK$/m,
    /^tea\.csv: \d+ rows, \d+ bytes, sha256 /m,
    /^\[\{"id":/m
  ]
  for (const pattern of expected) t.match(output, pattern)
})

t.test('its worker makes the runs of a server that makes none', async (t) => {
  const { url } = await serveApp(t, databaseUrl, { concurrency: 0 })
  const [line] = blocks.filter((block) => /npm run worker/.test(block))
  const env = { ...process.env, DATABASE_URL: databaseUrl, HOST: '127.0.0.1', PORT: '0' }
  // A group of its own: npm does not pass signals on to all that it has started.
  const shell = spawn('sh', ['-c', line as string], {
    cwd: root,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true
  })
  const closed = once(shell, 'close')
  t.teardown(async () => {
    process.kill(-(shell.pid as number), 'SIGTERM')
    await closed
  })
  const log = await printed(shell.stdout, /the worker waits for runs/)
  shell.stdout.resume()
  const run = await (await fetch(`${url}/reports/cargoes/runs`, { method: 'POST' })).json()
  const ended = await fetch(`${url}/runs/${(run as { id: string }).id}`, { headers: { prefer: 'wait=30' } })
  t.match(await ended.json(), { state: 'succeeded', progress: { rows: 2_000 } })
  const health = await fetch(/http:[\w/.:]+/.exec(log)?.[0] as string)
  t.equal(health.status, 200, 'and answers a health check')
})

t.test('its limits are those of the code', (t) => {
  const units: Record<string, number> = { day: 86_400_000, GiB: 1024 ** 3 }
  const rows = [...docs.matchAll(/^\| `(\w+)` +\| (\d+)(?: (\w+))? +\|/gm)]
  t.equal(rows.length, 5)
  for (const [, name, count, unit] of rows) {
    const { default: value } = runsOptions[name as keyof typeof runsOptions]
    t.equal(value, Number(count) * (units[unit ?? ''] ?? 1), name)
  }
  t.end()
})
