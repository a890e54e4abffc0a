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

t.test('Docker waits longer for the end of the server than the server itself', async (t) => {
  const own = timeAfter('delay', await read('server.ts'))
  const compose = await read('docker-compose.yml')
  t.ok(timeAfter('stop_grace_period', compose.slice(compose.indexOf('\n  app:'))) > own)
})

t.test('the image has the packages that the sample server imports', async (t) => {
  const folder = await temporaryFolder(t)
  await cp(join(root, 'package.json'), join(folder, 'package.json'))
  await promisify(execFile)(process.execPath, [join(root, 'docker/sample-packages.ts')], { cwd: folder })
  const { dependencies } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
  const imported = new Set<string>()
  for await (const path of glob('{*.ts,{routes,database,plugins}/**/*.ts}', { cwd: root })) {
    if (path === 'build.ts') continue
    for (const [, name] of (await read(path)).matchAll(
      /(?:\bfrom |\bimport\()'((?:@[\w-]+\/)?[\w-]+)(?=['/])/g
    ))
      imported.add(name as string)
  }
  t.same(Object.keys(dependencies).sort(), [...imported].sort())
  t.notOk(Object.values(dependencies).includes(undefined))
})
