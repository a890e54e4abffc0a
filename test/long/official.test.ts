import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { temporaryFolder } from '../database.ts'
import { outcome } from '../packed.ts'

// Fastify's own plugins beside reply.csv(), as docs/plugins.md has them. They are installed for this test alone.
t.setTimeout(300_000)

const root = join(import.meta.dirname, '../..')
const folder = join(root, 'test/official')
const install = ['ci', '--prefix', folder, '--prefer-offline', '--no-audit', '--no-fund']
const { code, output } = await outcome('npm', install, { cwd: await temporaryFolder(t) })
if (code !== 0) throw new Error(`the plugins cannot be installed: ${output}`)

for (const subject of ['headers', 'load', 'coding', 'bodies', 'lambda', 'description'])
  await import(`../official/${subject}.ts`)
const { tested } = await import('../official/beside.ts')

t.test('docs/plugins.md has a line for each plugin that is tested, and for no other', async (t) => {
  const page = await readFile(join(root, 'docs/plugins.md'), 'utf8')
  const named = [...page.matchAll(/^\| (?:\[)?(@fastify\/[\w-]+)/gm)].map(([, name]) => name as string)
  t.strictSame(named.sort(), [...tested].sort())
  const { dependencies } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
  const installed = Object.keys(dependencies).filter((name) => name.startsWith('@fastify/'))
  t.strictSame(installed.sort(), named)
})
