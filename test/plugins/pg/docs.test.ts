import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import t from 'tap'
import * as errors from '../../../plugins/pg/errors.ts'
import { copyRows, cursorRows } from '../../../plugins/pg/index.ts'
import { startDatabase } from '../../database.ts'
import { curl, serve } from '../../helper.ts'
import { openPool } from './pools.ts'

const root = new URL('../../../', import.meta.url)
const docs = await readFile(new URL('docs/postgres.md', root), 'utf8')
const url = await startDatabase(t, { rows: 2_000 })

/** The cells of a table's rows, without the marks of code. */
function table(heading: string): string[][] {
  const section = docs.slice(docs.indexOf(heading))
  const [, , ...rows] = (/(?:^\|.*\n)+/m.exec(section) as RegExpExecArray)[0].trim().split('\n')
  return rows.map((row) =>
    row
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim().replace(/^`(.*)`$/, '$1'))
  )
}

t.test('docs/postgres.md says what values look like', async (t) => {
  const pool = openPool(t, url)
  const { url: origin } = await serve(t, (app) => {
    app.get<{ Querystring: { value: string } }>('/cursor', ({ query: { value } }, reply) =>
      reply.csv(cursorRows(pool, `SELECT ${value} AS value, 1 AS one`), { columns: ['value', 'one'] })
    )
    app.get<{ Querystring: { value: string } }>('/copy', ({ query: { value } }, reply) =>
      reply.csv(copyRows(pool, `SELECT ${value} AS value, 1 AS one`), { encoded: true })
    )
  })
  const cell = async (way: string, value: string): Promise<string> => {
    const { body } = await curl('-G', '--data-urlencode', `value=${value}`, `${origin}/${way}`)
    return body.replace(/^value,one\n([\s\S]*),1\n$/, '$1')
  }
  const looks = table('## What values look like')
  const others = table('The statement can say')
  t.ok(looks.length > 10 && others.length > 5)
  for (const [value, byCursor, byCopy] of looks as [string, string, string][]) {
    t.equal(await cell('cursor', value), byCursor, value)
    t.equal(await cell('copy', value), byCopy, value)
  }
  for (const [value, gives] of others as [string, string][])
    t.equal(await cell('cursor', value), gives, value)
})

t.test('docs/postgres.md lists every error', async (t) => {
  t.same(
    table('## Errors')
      .map(([code]) => code)
      .sort(),
    Object.keys(errors).sort()
  )
})

t.test('the recipe in docs/postgres.md runs', async (t) => {
  const example = await readFile(new URL('examples/postgres.ts', root), 'utf8')
  const use = example.replace(/'\.\.\/.*' \/\/ yours: from ('.*')/g, '$1')
  t.ok(docs.includes(use.trim()), 'it is the example')
  const child = spawn(process.execPath, ['examples/postgres.ts', '0'], {
    cwd: root,
    env: { ...process.env, DATABASE_URL: url },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(async () => {
    child.kill()
    await once(child, 'exit')
  })
  for await (const line of createInterface({ input: child.stdout })) {
    const [address] = /http:\/\/[^"]+/.exec(JSON.parse(line).msg) ?? []
    if (address === undefined) continue
    const { code, body } = await curl(`${address}/cargoes.csv?weight=27000`)
    t.equal(code, 0)
    t.match(body, /^number,origin\n(\d+,.+\n){5,}$/)
    break
  }
})
