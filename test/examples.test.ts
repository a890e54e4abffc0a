import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import t from 'tap'
import { curl } from './helper.ts'

const root = new URL('..', import.meta.url)

t.test('examples/server.ts serves what the README says', async (t) => {
  const child = spawn(process.execPath, ['examples/server.ts', '0'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(() => child.kill())
  const [line] = await once(child.stdout, 'data')
  const { body } = await curl(`${String(line).trim()}/users.csv`)
  t.equal(body, 'id,Full name\n1,"User ""1"""\n2,"User ""2"""\n3,"User ""3"""\n')
  const readme = await readFile(new URL('README.md', root), 'utf8')
  t.ok(readme.includes(body.trim()), 'the README prints it')
  const example = await readFile(new URL('examples/server.ts', root), 'utf8')
  const use = example.slice(example.indexOf('const app'), example.indexOf('console.log')).trim()
  t.ok(readme.includes(use), 'the README shows the code that ran')
})
