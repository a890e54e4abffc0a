import t from 'tap'
import { keysetPages } from '../../plugins/csv-export/index.ts'
import { copyRows, cursorRows, sql } from '../../plugins/pg/index.ts'
import { connect, serveApp, startDatabase, untilNoneBusy } from '../database.ts'
import { curl } from '../helper.ts'
import { collect, isUsable, iterate, openPool, until, untilBack } from '../plugins/pg/pools.ts'
import { contract } from '../plugins/runs/files/contract.ts'
import { openFiles } from '../plugins/runs/files/postgres-store.ts'
import { skipWithout } from '../programs.ts'
import { startPgBouncer } from './pgbouncer.ts'

const skip = skipWithout('PgBouncer (pgbouncer)', 'pgbouncer', '--version')
const kinds = { cursorRows, copyRows }

t.test('behind PgBouncer in transaction mode', { skip }, async (t) => {
  const url = await startDatabase(t, { rows: 2_000 })
  const database = await connect(t, url)
  await database.query("ALTER ROLE postgres SET TimeZone = 'Asia/Tokyo'")
  const bouncer = await startPgBouncer(t, url)

  t.test('text does not depend on settings, and leaves them', async (t) => {
    const pool = openPool(t, bouncer)
    const text = "SELECT timestamptz '2024-02-29 00:00Z' AS time"
    t.strictSame(await collect(cursorRows(pool, text)), [['2024-02-29 00:00:00+00']])
    t.equal(Buffer.concat(await collect(copyRows(pool, text))).toString(), 'time\n2024-02-29 00:00:00+00\n')
    t.equal((await pool.query('SHOW TimeZone')).rows[0].TimeZone, 'Asia/Tokyo')
  })

  t.test('more clients than connections share them', async (t) => {
    const pool = openPool(t, bouncer, { max: 10 })
    const text = 'SELECT n FROM generate_series(1, 5000) n'
    const all = await Promise.all(Array.from({ length: 10 }, () => collect(cursorRows(pool, text))))
    for (const rows of all) t.equal(rows.length, 5_000)
    await isUsable(t, pool)
  })

  t.test('values of a COPY leave nothing prepared on a connection that others get', async (t) => {
    const pool = openPool(t, bouncer, { max: 10 })
    const text = (number: number) => copyRows(pool, sql`SELECT ${number}::integer AS n`)
    const all = await Promise.all(Array.from({ length: 10 }, (_, number) => collect(text(number))))
    t.strictSame(
      all.map((chunks) => Buffer.concat(chunks).toString()),
      Array.from({ length: 10 }, (_, number) => `n\n${number}\n`)
    )
    await t.rejects(collect(copyRows(pool, sql`SELECT ${'none'}::uuid`)), { code: '22P02' })
    for (let time = 0; time < 5; time++) await collect(text(time))
    await isUsable(t, pool)
  })

  t.test('pages share the connections', async (t) => {
    const pool = openPool(t, bouncer, { max: 10 })
    const text =
      'SELECT id FROM cargoes WHERE ($1::bigint IS NULL OR id > $1) AND id <= $2 ORDER BY id LIMIT $3'
    const pages = () =>
      keysetPages(async ({ after, upTo, limit }) => (await pool.query(text, [after, upTo, limit])).rows, {
        key: 'id',
        bound: async () => (await pool.query('SELECT max(id) FROM cargoes')).rows[0].max,
        limit: 100
      })
    const all = await Promise.all(Array.from({ length: 10 }, () => collect(pages())))
    for (const rows of all) t.equal(rows.length, 2_000)
    await isUsable(t, pool)
  })

  for (const [kind, rowsOf] of Object.entries(kinds)) {
    t.test(`a statement is cancelled, again and again: ${kind}`, async (t) => {
      const pool = openPool(t, bouncer)
      for (let time = 0; time < 5; time++) {
        const rows = iterate<unknown>(rowsOf(pool, 'SELECT pg_sleep(3600)'))
        const pending = rows.next()
        await until(database, '%pg_sleep(3600)%', 'active')
        await rows.return()
        t.strictSame(await pending, { done: true, value: undefined })
        await untilNoneBusy(database)
        await untilBack(pool)
      }
      await isUsable(t, pool)
    })

    t.test(`a statement that fails, or is left: ${kind}`, async (t) => {
      const pool = openPool(t, bouncer)
      await t.rejects(collect<unknown>(rowsOf(pool, 'SELECT nonsense')), { code: '42703' })
      const rows = iterate<unknown>(rowsOf(pool, 'SELECT * FROM cargoes'))
      await rows.next()
      await rows.return()
      await isUsable(t, pool)
      await untilNoneBusy(database)
    })
  }

  t.test('files of runs', async (t) => {
    contract(t, await openFiles(t, bouncer, { schema: 'runs' }), { large: 8_388_613 })
  })

  t.test('a run is made without LISTEN, and its file is read in parts', async (t) => {
    const { url: origin } = await serveApp(t, bouncer, { notify: false })
    const { body } = await curl('-X', 'POST', `${origin}/reports/cargoes/runs`)
    const run = `${origin}/runs/${JSON.parse(body).id}`
    const ended = JSON.parse((await curl('-H', 'Prefer: wait=30', run)).body)
    t.match(ended, { state: 'succeeded', result: { rows: 2_000 } })
    const { body: part } = await curl('-L', '-r', '1000-1999', `${run}/result`)
    const { body: whole } = await curl(`${origin}/reports/cargoes.csv`)
    t.equal(part, Buffer.from(whole).subarray(1_000, 2_000).toString())
  })

  t.test('the sample server has its reports and their receipts', async (t) => {
    const { url: app } = await serveApp(t, bouncer)
    const { code, body } = await curl('-i', `${app}/reports/cargoes.csv`)
    t.equal(code, 0)
    t.equal(body.match(/^\d+,/gm)?.length, 2_000)
    const [, id] = /^export-id: (\S+)/im.exec(body) as RegExpExecArray
    const receipt = async () =>
      (await database.query('SELECT receipt FROM receipts WHERE id = $1 AND has_ended', [id])).rows[0]
        ?.receipt
    let found = await receipt()
    while (found === undefined) found = await receipt()
    t.match(found, { status: 'complete', rows: 2_000 })
  })
})
