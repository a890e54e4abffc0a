import { readFile } from 'node:fs/promises'
import t from 'tap'
import * as errors from '../plugins/csv-export/errors.ts'
import { csvOptions } from '../plugins/csv-export/options/options.ts'
import * as runErrors from '../plugins/runs/errors.ts'

const read = (path: string) => readFile(new URL(`../${path}`, import.meta.url), 'utf8')

/** The first column of the table under a heading. */
function names(text: string, heading: string): string[] {
  const section = text.slice(text.indexOf(heading) + heading.length).split(/\n## /)[0] as string
  return [...section.matchAll(/^\| `(\w+)` +\|/gm)].map(([, name]) => name as string)
}

t.test('docs/errors.md lists every error code', async (t) => {
  const page = await read('docs/errors.md')
  t.same(names(page, '# Errors').sort(), Object.keys(errors).sort())
  t.same(names(page, '## Report runs').sort(), Object.keys(runErrors).sort())
})

t.test('the README has a few options, as docs/options.md has them', async (t) => {
  const few = names(await read('README.md'), '## The options most people need')
  t.equal(few.length, 8)
  for (const name of few) t.ok(Object.hasOwn(csvOptions, name), name)
})

t.test('every dependency has its reason', async (t) => {
  const { dependencies, devDependencies } = JSON.parse(await read('package.json'))
  const text = await read('docs/dependencies.md')
  const names = Object.keys({ ...dependencies, ...devDependencies }).filter(
    (name) => !name.startsWith('@types/')
  )
  for (const name of names) t.ok(text.includes(`\n| ${name} `), name)
})
