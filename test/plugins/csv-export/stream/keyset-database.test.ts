import { readFile } from 'node:fs/promises'
import t from 'tap'
import { type KeysetPage, keysetPages } from '../../../../plugins/csv-export/index.ts'
import csvRuns, { defineReport } from '../../../../plugins/runs/index.ts'
import { startDatabase } from '../../../database.ts'
import { curl, serve } from '../../../helper.ts'
import { openPool } from '../../pg/pools.ts'
import { checkPages } from './changing-table.ts'

const url = await startDatabase(t, { rows: 0 })

t.test('of a table that changes, each row that stands still comes once, and none twice', async (t) => {
  await checkPages(t, url, { rounds: 6, seed: Math.floor(Math.random() * 2 ** 31) })
  t.pass('no row was lost or doubled')
})

t.test('keys that JavaScript would make less of are given as text', async (t) => {
  const pool = openPool(t, url)
  await pool.query(
    'CREATE TABLE orders (id bigint PRIMARY KEY, placed_at timestamptz NOT NULL, total numeric)'
  )
  await pool.query(`INSERT INTO orders SELECT 9007199254740990 + n, timestamptz '2024-07-01 12:00Z'
    + n / 3 * interval '1 microsecond', 1.10 FROM generate_series(0, 19) n`)
  const { text, last } = await examplesIn('docs/postgres.md')
  const ask = async ({ after = [], upTo, limit }: KeysetPage) =>
    (await pool.query(text, [after[0], after[1], ...upTo, limit])).rows
  const bound = async () => (await pool.query({ text: last, rowMode: 'array' })).rows[0]
  const ids: string[] = []
  for await (const { id } of keysetPages(ask, { key: ['placed_at', 'id'], bound, limit: 4 })) ids.push(id)
  t.strictSame(
    ids,
    Array.from({ length: 20 }, (_, n) => String(9007199254740990n + BigInt(n)))
  )

  // As pg gives them, the last rows would not be within the bound.
  const dates = keysetPages(ask, {
    key: ['placed_at', 'id'],
    bound: async () => (await pool.query({ text: last.replace('::text', ''), rowMode: 'array' })).rows[0]
  })
  await t.rejects(
    (async () => {
      for await (const _row of dates);
    })(),
    { code: 'CSV_EXPORT_INVALID_PAGE', message: /^bound\(\): "placed_at"/ }
  )
})

t.test('a report of pages streams, and is made as a run', async (t) => {
  const pool = openPool(t, url)
  const text = 'SELECT n FROM generate_series(1, 2500) n WHERE n > $1 AND n <= $2 ORDER BY n LIMIT $3'
  const report = defineReport({
    name: 'numbers',
    version: 1,
    parameters: { type: 'object', properties: { upTo: { type: 'integer' } } },
    rows: ({ parameters, signal }) =>
      keysetPages(
        async ({ after, upTo, limit }) => (await pool.query(text, [after ?? 0, upTo, limit])).rows,
        {
          key: 'n',
          bound: () => parameters.upTo,
          signal
        }
      )
  })
  const { url: origin } = await serve(t, async (app) => {
    await app.register(csvRuns, { connectionString: url, reports: [report], owner: 'public' })
  })
  const file = `n\n${Array.from({ length: 2_500 }, (_, n) => `${n + 1}\n`).join('')}`
  t.equal((await curl(`${origin}/reports/numbers.csv?upTo=2500`)).body, file)
  const { body } = await curl('--json', '{"upTo":2500}', `${origin}/reports/numbers/runs`)
  const run = `${origin}/runs/${JSON.parse(body).id}`
  t.match(JSON.parse((await curl('-H', 'Prefer: wait=30', run)).body), { state: 'succeeded' })
  t.equal((await curl('-L', `${run}/result`)).body, file)
})

/** The statements of a page's example of a compound key. */
async function examplesIn(path: string): Promise<{ text: string; last: string }> {
  const docs = await readFile(new URL(`../../../../${path}`, import.meta.url), 'utf8')
  const [, text = ''] = /const text = `(SELECT placed_at[^`]+)`/.exec(docs) ?? []
  const [, last = ''] = /const last = '([^']+)'/.exec(docs) ?? []
  return { text, last }
}
