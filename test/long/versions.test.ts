import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import t from 'tap'
import { outcome, run } from '../packed.ts'
import { copyCheckout } from './checkout.ts'

// The suite of plugins/ with the oldest Node and Fastify that package.json takes, and the Node of long-term support. Each
// with everything else as it is installed. What an old Fastify lacks its tests name: skipBefore().
t.setTimeout(900_000)

const root = join(import.meta.dirname, '../..')
const { engines } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
const oldestNode = `${engines.node.replace('>=', '')}.0`

/** Globs, for the runner. */
const all = [
  'test/plugins/**/*.test.ts',
  // Before Node 26, a stream of HTTP/2 that is closed while writes wait is destroyed only when they have gone.
  'test/attacks/!(http2-cancels).test.ts',
  'test/half-closed.test.ts'
]
/** Nor with its types, nor its `handlerTimeout`. */
const withoutText = [
  'test/plugins/csv-export/{receipts,reply,stream}/*.test.ts',
  'test/plugins/csv-export/options/!(type-errors).test.ts',
  'test/attacks/!(http2-cancels|async-context).test.ts',
  'test/half-closed.test.ts'
]

for (const [name, version, files] of [
  ['node', oldestNode, all],
  ['node', '24', all],
  // Text is made without it.
  ['fastify', '5.0.0', withoutText]
] as const) {
  t.test(`the suite of plugins/ with ${name} ${version}`, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'versions-'))
    t.teardown(() => rm(folder, { recursive: true }))
    // PostgreSQL runs as another user, and its data is in there.
    await chmod(folder, 0o755)
    const installed = await install(join(folder, 'installed'), `${name}@${version}`)
    const checkout = join(folder, 'rest', 'checkout')
    await copyCheckout(checkout)
    // Found in the folder above, behind what stands in the checkout's own.
    await symlink(join(root, 'node_modules'), join(folder, 'rest', 'node_modules'))
    await mkdir(join(checkout, 'node_modules'))
    await symlink(join(installed, name), join(checkout, 'node_modules', name))

    const path = [join(installed, '.bin'), join(root, 'node_modules/.bin'), process.env.PATH].join(delimiter)
    const tap = join(root, 'node_modules/tap/dist/esm/run.mjs')
    const args = [`PATH=${path}`, 'node', tap, 'run', '--reporter=tap', '--jobs=2', ...files]
    const { code, output } = await outcome('env', args, { cwd: checkout })
    t.equal(code, 0, output.match(/^# \{ total.*\}$/m)?.[0])
    if (code !== 0) t.fail('what failed', { lines: output.match(/^ *not ok .*$/gm) })
  })
}

/** @returns the folder of installed packages */
async function install(folder: string, name: string): Promise<string> {
  await mkdir(folder)
  // Its program is put in place by a script.
  await writeFile(join(folder, 'package.json'), JSON.stringify({ allowScripts: { node: true } }))
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', name], { cwd: folder })
  return join(folder, 'node_modules')
}
