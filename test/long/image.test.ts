import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { printed } from '../clients.ts'
import { startDatabase, temporaryFolder } from '../database.ts'
import { curl } from '../helper.ts'
import { run } from '../packed.ts'

t.setTimeout(300_000)

const root = join(import.meta.dirname, '../..')
const dockerfile = (await readFile(join(root, 'Dockerfile'), 'utf8')).replaceAll('\\\n', '')

/** A program and its arguments. */
function commandOf(instruction: RegExp): [file: string, ...args: string[]] {
  return JSON.parse(instruction.exec(dockerfile)?.[1] as string)
}

/** Files of the image as a Docker engine would make them, but for those of its base. */
async function buildTree(folder: string): Promise<void> {
  for (const [, name, operands] of dockerfile.matchAll(/^(COPY|RUN) (.*)$/gm) as Iterable<
    [string, string, string]
  >) {
    if (name === 'RUN') {
      const env = ['NODE_ENV=production', `npm_config_cache=${join(folder, '.npm')}`]
      await run('env', [...env, 'sh', '-c', operands], { cwd: folder })
      continue
    }
    const paths = operands.split(' ')
    const target = paths.pop() as string
    for (const path of paths) {
      const to = target.endsWith('/') ? join(folder, target, basename(path)) : join(folder, target)
      await cp(join(root, path), to, { recursive: true })
    }
  }
}

t.test('the files of the image', async (t) => {
  const folder = await temporaryFolder(t)
  await buildTree(folder)
  const { stdout } = await promisify(execFile)('du', ['-sk', join(folder, 'node_modules')])
  const kibibytes = Number.parseInt(stdout, 10)
  t.ok(kibibytes < 40_000, `packages take ${kibibytes} KiB`)
  t.comment(`packages take ${kibibytes} KiB`)
  const packages = await readdir(join(folder, 'node_modules'))
  for (const tool of ['tap', 'typescript', '@biomejs', 'node']) t.notOk(packages.includes(tool), tool)

  const url = await startDatabase(t, { rows: 1_000 })
  const [file, ...args] = commandOf(/^CMD (.*)$/m)
  const env = {
    PATH: process.env.PATH,
    HOST: '127.0.0.1',
    PORT: '0',
    NODE_ENV: 'production',
    DATABASE_URL: url
  }
  const server = spawn(file, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => server.kill('SIGKILL'))
  const [origin] = /http:[\d.:/]+/.exec(await printed(server.stdout, /listening at http:[\d.:/]+/)) as [
    string
  ]
  server.stdout.resume()

  const [node, ...probe] = commandOf(/^HEALTHCHECK .* CMD (.*)$/m)
  const { port } = new URL(origin)
  await promisify(execFile)(node, probe, { env: { ...env, PORT: port } })
  t.pass('its health check is content')
  await t.rejects(promisify(execFile)(node, probe, { env: { ...env, PORT: '1' } }), { code: 1 })

  const report = join(folder, 'cargoes.csv')
  t.equal((await curl('--fail', '-o', report, `${origin}/reports/cargoes.csv`)).code, 0)
  t.match((await curl('-F', `file=@${report}`, `${origin}/imports`)).body, /^import 1: 1000 rows$/m)
  t.match((await curl(`${origin}/download_csv_streaming?rows=1`)).body, 'Hello,world,0')

  const worker = spawn(file, ['worker.ts'], { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => worker.kill('SIGKILL'))
  const log = await printed(worker.stdout, /the worker waits for runs/)
  worker.stdout.resume()
  const { port: workerPort } = new URL(/http:[\d.:/]+/.exec(log)?.[0] as string)
  await promisify(execFile)(node, probe, { env: { ...env, PORT: workerPort } })
  t.pass('it is content with a worker, too')

  for (const process of [server, worker]) {
    const ended = once(process, 'exit')
    process.kill('SIGTERM')
    t.same(await ended, [0, null])
  }
})
