import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { serveApp, startDatabase, temporaryFolder } from './database.ts'
import { curl } from './helper.ts'
import { startCuttingProxy } from './long/cutting-proxy.ts'

const root = new URL('..', import.meta.url)
const read = (path: string) => readFile(new URL(path, root), 'utf8')

async function start(t: Test, example: string): Promise<string> {
  const child = spawn(process.execPath, [example, '0'], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill())
  const [line] = await once(child.stdout, 'data')
  return String(line).trim()
}

/** As a reader would have it: with the published names. */
const published = (code: string) => code.replace(/'\.\.\/.*' \/\/ yours: from ('.*')/g, '$1')
const unindented = (code: string) => code.replaceAll(/^ +/gm, '')

/** Blocks of a page that no example contains. Imports may stand elsewhere in it. */
async function untried(page: string): Promise<string[]> {
  const programs: string[] = []
  for await (const path of glob('examples/**/*.ts', { cwd: root, exclude: ['**/node_modules/**'] })) {
    const code = unindented(published(await read(path)))
    // What the tests import, a page need not export.
    programs.push(code, code.replaceAll(/^export (?=const|(?:async )?function)/gm, ''))
  }
  const isTried = (block: string) => {
    const imports = [...block.matchAll(/^import .*$/gm)].map(([line]) => line)
    const rest = block.replaceAll(/^import .*\n/gm, '').trim()
    return programs.some((code) => [rest, ...imports].every((part) => code.includes(part)))
  }
  const blocks = [...(await read(page)).matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block]) => block as string)
  return blocks.filter((block) => !isTried(unindented(block)))
}

for (const page of ['README.md', 'docs/migrating.md', 'docs/openapi.md', 'docs/recipes.md', 'docs/runs.md']) {
  t.test(`the code in ${page} is that of programs that run`, async (t) => t.same(await untried(page), []))
}

t.test('examples/server.ts serves what the README says', async (t) => {
  const { body } = await curl(`${await start(t, 'examples/server.ts')}/users.csv`)
  t.equal(body, 'id,Full name\n1,"User ""1"""\n2,"User ""2"""\n3,"User ""3"""\n')
  t.ok((await read('README.md')).includes(body.trim()), 'the README prints it')
})

t.test('examples/inject.test.ts passes', async (t) => {
  const child = spawn(process.execPath, ['--test', 'examples/inject.test.ts'], { cwd: root, stdio: 'ignore' })
  t.same(await once(child, 'exit'), [0, null])
})

t.test('examples/migrating.ts keeps the bytes of other writers', async (t) => {
  const url = await start(t, 'examples/migrating.ts')
  for (const writer of ['csv-stringify', 'fast-csv', 'json2csv', 'papaparse']) {
    const before = await curl(`${url}/${writer}/before`)
    t.match(before, { code: 0, body: /^"?id"?,/ })
    t.same(await curl(`${url}/${writer}/after`), before, writer)
  }
})

t.test(
  'examples/openapi.ts and openapi-zod.ts serve the file of docs/openapi.md, and its entry',
  async (t) => {
    const page = await read('docs/openapi.md')
    const urls = await Promise.all(['openapi', 'openapi-zod'].map((name) => start(t, `examples/${name}.ts`)))
    for (const url of urls) {
      const { body } = await curl(`${url}/orders.csv`)
      t.ok(page.includes(`\`\`\`\n${body}\`\`\`\n`), body)
      const { paths } = JSON.parse((await curl(`${url}/openapi.json`)).body)
      const { description, content } = paths['/orders.csv'].get.responses[200]
      t.same(content, { 'text/csv': { schema: { type: 'string' } } })
      t.match(description, '- `No.`: integer\n- `total`: number. Net, in euros\n')
    }
  }
)

t.test('examples/run.ts has a whole file, however often its download breaks', async (t) => {
  const { url } = await serveApp(t, await startDatabase(t))
  const proxy = await startCuttingProxy(t, url, () => 60_000)
  const file = join(await temporaryFolder(t), 'tea.csv')
  const child = spawn(process.execPath, ['examples/run.ts', proxy.url, file], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'close')])
  t.equal(code, 0)
  t.ok(proxy.cuts >= 2, `${proxy.cuts} cuts`)
  t.equal(output.match(/^the download broke/gm)?.length, proxy.cuts)
  const sha256 = createHash('sha256')
    .update(await readFile(file))
    .digest('hex')
  t.ok(output.endsWith(`sha256 ${sha256}\n`))
  t.equal(await readFile(file, 'utf8'), (await curl(`${url}/reports/cargoes.csv?commodity=Tea`)).body)
})
