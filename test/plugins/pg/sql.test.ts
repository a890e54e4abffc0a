import t from 'tap'
import { toCsv } from '../../../plugins/csv-export/index.ts'
import { copyRows, cursorRows, sql } from '../../../plugins/pg/index.ts'
import { connect, startDatabase } from '../../database.ts'
import { checkParameters, things } from './parameter-sets.ts'
import { collect, isUsable, openPool } from './pools.ts'

const url = await startDatabase(t, { rows: 0 })
const database = await connect(t, url)
await database.query(things)

const copied = async (rows: AsyncIterable<Buffer>): Promise<string> =>
  Buffer.concat(await collect(rows)).toString()

t.test('random parameters are the same cells in a COPY and in a cursor, or the same error', async (t) => {
  await checkParameters(t, openPool(t, url), { sets: 120, seed: Math.floor(Math.random() * 2 ** 31) })
})

t.test('so they are where backslashes escape in every string', async (t) => {
  await database.query('ALTER ROLE postgres SET standard_conforming_strings = off')
  await database.query('ALTER ROLE postgres SET escape_string_warning = off')
  t.teardown(() => database.query('ALTER ROLE postgres RESET ALL'))
  await checkParameters(t, openPool(t, url), { sets: 50, seed: Math.floor(Math.random() * 2 ** 31) })
})

t.test('one statement goes either way, and to pg itself', async (t) => {
  const pool = openPool(t, url)
  const statement = sql`SELECT ${1}::integer + int4 AS sum, ${"it's \\ this"} AS text FROM things WHERE date = ${'2024-02-29'} -- all`
  t.strictSame(await collect(cursorRows(pool, statement, { batchSize: 1 })), [['2', "it's \\ this"]])
  t.equal(await copied(copyRows(pool, statement)), "sum,text\n2,it's \\ this\n")
  t.strictSame((await pool.query(statement)).rows, [{ sum: 2, text: "it's \\ this" }])
  t.equal(await copied(copyRows(pool, sql`SELECT 1 AS one`, {})), 'one\n1\n')
  await isUsable(t, pool)
})

t.test(
  'a value is never a piece of SQL, also where the statement has put it in quotes or a comment',
  async (t) => {
    const pool = openPool(t, url)
    const bad = "' || (SELECT text FROM things) || '"
    const quoted = [
      sql`SELECT '${bad}' AS text`,
      sql`SELECT 'a%${bad}%' AS text FROM things WHERE int4 = ${1}`,
      sql`SELECT "${bad}" FROM things`,
      sql`SELECT 1 -- ${bad}`,
      sql`SELECT 1 /* ${bad} */`,
      sql`SELECT $a$${bad}$a$`,
      sql`SELECT E'\\'${bad}'`,
      sql`SELECT things${bad} FROM things`
    ]
    for (const statement of quoted) {
      const error = await copied(copyRows(pool, statement)).catch((error) => error)
      t.ok(
        ['CSV_EXPORT_INVALID_OPTION', '42P18', '42703', '42601'].includes(error.code),
        `${statement.text}: ${error}`
      )
    }
    await t.rejects(copied(copyRows(pool, sql`SELECT '${bad}' AS text`)), {
      code: 'CSV_EXPORT_INVALID_OPTION',
      message:
        '"text" must be a statement whose values stand outside of quotes and comments, got 0 of 1 there'
    })
    await isUsable(t, pool)
  }
)

t.test(
  'NULL and the empty string are told apart by COPY alone, and one where the statement says so',
  async (t) => {
    const pool = openPool(t, url)
    const statement = sql`SELECT ${null}::text AS a, ${''}::text AS b, nullif(${''}, '') AS c, coalesce(${null}, '') AS d`
    t.equal(await copied(copyRows(pool, statement)), 'a,b,c,d\n,"",,""\n')
    t.strictSame(await collect(cursorRows(pool, statement)), [[null, '', null, '']])
    t.equal((await copied(toCsv(cursorRows(pool, statement)))).split('\n')[1], ',,,')
  }
)

t.test('types that are not in the search_path, and more values than a row has columns', async (t) => {
  const pool = openPool(t, url)
  await database.query(`CREATE SCHEMA "far; away"; CREATE TYPE "far; away"."odd ""type" AS ENUM ('a''b');
    CREATE TABLE "far; away".places AS SELECT 'a''b'::"far; away"."odd ""type" AS kind`)
  const kind = "a'b"
  const statement = sql`SELECT kind FROM "far; away".places WHERE kind = ${kind}`
  t.equal(await copied(copyRows(pool, statement)), "kind\na'b\n")
  const strings = ['SELECT count(*) FROM things WHERE int4 IN (', ...Array(1_999).fill(', '), ')']
  const many = sql(Object.assign(strings, { raw: strings }) as never, ...Array(2_000).keys())
  t.equal(await copied(copyRows(pool, many)), 'count\n1\n')
})

t.test('nothing is left prepared, and errors are those of a cursor', async (t) => {
  const pool = openPool(t, url)
  await copied(copyRows(pool, sql`SELECT ${1}::integer`))
  t.strictSame((await pool.query('SELECT name FROM pg_prepared_statements')).rows, [])
  t.equal(pool.totalCount, 1, 'it is the same connection')
  await t.rejects(copied(copyRows(pool, sql`SELECT ${[{ a: 1n }]}::json`)), TypeError)
  await t.rejects(copied(copyRows(pool, sql`SELECT ${'none'}::uuid`)), { code: '22P02' })
  await t.rejects(copied(copyRows(pool, sql`SELECT ${'\0'}`)), { code: '22021' })
  await t.rejects(copied(copyRows(pool, sql`SELECT nonsense`)), { code: '42703' })
  await isUsable(t, pool)
})

t.test('a Buffer is bytea where PostgreSQL takes one, and text where it takes that', async (t) => {
  const pool = openPool(t, url)
  const statement = sql`SELECT ${Buffer.from([0, 255])}::bytea AS a, ${Buffer.from("ä'")}::text AS b`
  t.equal(await copied(copyRows(pool, statement)), "a,b\n\\x00ff,ä'\n")
  t.strictSame(await collect(cursorRows(pool, statement)), [['\\x00ff', "ä'"]])
})

t.test('what is no template, or no values, is refused at once', async (t) => {
  const refused = { code: 'CSV_EXPORT_INVALID_OPTION' }
  t.throws(() => sql('SELECT 1' as never), { ...refused, message: /^"sql"/ })
  t.throws(() => sql(['SELECT 1'] as never), { ...refused, message: /^"sql"/ })
  t.throws(() => sql`SELECT '\u'`, { ...refused, message: /^"text"/ })
  t.throws(() => sql`SELECT $1, ${1}`, { ...refused, message: /^"text" .* \$1/ })
  t.throws(() => sql`SELECT 1 ${sql`AND true`}`, { ...refused, message: /^"values"/ })
})

t.test('values and options beside a statement of sql would be passed over, and are refused', async (t) => {
  const pool = openPool(t, url)
  const { signal } = new AbortController()
  for (const rowsOf of [cursorRows, copyRows]) {
    for (const others of [[[]], [[1], { signal }], [{}, { signal }], [undefined, { signal }]]) {
      t.throws(() => rowsOf(pool, sql`SELECT 1`, ...(others as [])), {
        code: 'CSV_EXPORT_INVALID_OPTION',
        message: /^"values"/
      })
    }
  }
})

t.test('the signal ends it while values are written', async (t) => {
  const pool = openPool(t, url)
  const left = new Error('the client left')
  const controller = new AbortController()
  const value = {
    toPostgres() {
      controller.abort(left)
      return '1'
    }
  }
  const rows = copyRows(pool, sql`SELECT ${value}::integer`, { signal: controller.signal })
  await t.rejects(collect(rows), left)
  await isUsable(t, pool)
})
