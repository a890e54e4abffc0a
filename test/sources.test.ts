import { glob, readFile } from 'node:fs/promises'
import t from 'tap'

const root = new URL('..', import.meta.url)
const read = (path: string) => readFile(new URL(path, root), 'utf8')

t.test("the code in docs/sources.md is that of test/sources/'s recipes", async (t) => {
  const page = await read('docs/sources.md')
  const blocks = [...page.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block]) => block as string)
  const recipes: string[] = []
  for await (const path of glob('test/sources/recipes/*.ts', { cwd: root })) {
    recipes.push((await read(path)).replaceAll(/'\.\.\/.*' \/\/ yours: from ('.*')/g, '$1'))
  }
  t.ok(recipes.length > 10)
  t.same(blocks.sort(), recipes.sort())
})
