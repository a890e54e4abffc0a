import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Cursor from 'pg-cursor'
import t, { type Test } from 'tap'
import { copyRows, cursorRows, type TextRow } from '../../../plugins/pg/index.ts'
import { connect, copyToCsv, startDatabase } from '../../database.ts'
import { collect, isUsable, iterate, openPool } from './pools.ts'

const url = await startDatabase(t, { rows: 2_000 })
const database = await connect(t, url)

const everything = `SELECT 9007199254740993::bigint AS big, 1.10::numeric AS exact, 0.1::float8 + 0.2 AS float,
  timestamptz '2024-02-29 12:34:56.123456+05' AS time, date '0044-03-15 BC' AS day, interval '1 day 2 hours' AS span,
  '' AS empty, NULL AS none, true AS yes, ARRAY[1, NULL] AS list, '\\x00ff'::bytea AS bytes`

t.test('values come as the text that COPY writes', async (t) => {
  const pool = openPool(t, url)
  const [row] = await collect(cursorRows(pool, everything))
  const text = (row as TextRow).map((value) => (value === '' ? '""' : (value ?? '')))
  const copied = await copyToCsv(database, everything)
  t.equal(text.map((value) => (value.includes(',') ? `"${value}"` : value)).join(','), copied.split('\n')[1])
  t.equal(Buffer.concat(await collect(copyRows(pool, `${everything} -- all of it`))).toString(), copied)
})

const settings = `
  ALTER ROLE postgres SET TimeZone = 'Asia/Tokyo';
  ALTER ROLE postgres SET DateStyle = 'SQL, DMY';
  ALTER ROLE postgres SET IntervalStyle = 'iso_8601';
  ALTER ROLE postgres SET bytea_output = 'escape';
  ALTER ROLE postgres SET extra_float_digits = 0`

t.test(
  'text does not depend on settings of the role or of the connection string, and leaves them',
  async (t) => {
    const copied = await copyToCsv(database, everything)
    await database.query(settings)
    t.teardown(() => database.query('ALTER ROLE postgres RESET ALL'))
    const pool = openPool(t, `${url}?options=${encodeURIComponent('-c TimeZone=America/Lima')}`)
    t.equal(Buffer.concat(await collect(copyRows(pool, everything))).toString(), copied)
    const time = 'SELECT timestamptz $$2024-02-29 00:00Z$$'
    t.strictSame(await collect(cursorRows(pool, time)), [['2024-02-29 00:00:00+00']])
    t.equal((await pool.query('SHOW TimeZone')).rows[0].TimeZone, 'America/Lima')
    t.equal(pool.totalCount, 1)
  }
)

for (const count of [0, 1, 99, 100, 101, 300, 301]) {
  t.test(`${count} rows in batches of 100, 200 and 400`, async (t) => {
    const pool = openPool(t, url)
    const text = 'SELECT n::text FROM generate_series(1, $1::integer) n'
    for (let round = 0; round < 2; round++) {
      const rows = await collect(cursorRows(pool, text, [count]))
      t.strictSame(
        rows,
        Array.from({ length: count }, (_, n) => [String(n + 1)])
      )
    }
    await isUsable(t, pool)
  })
}

t.test('a batch size that PostgreSQL takes for all of the rows is refused', async (t) => {
  for (const batchSize of [0, -1, 1.5, Number.NaN, '10' as unknown as number]) {
    t.throws(() => cursorRows(openPool(t, url), 'SELECT 1', [], { batchSize }), {
      code: 'CSV_EXPORT_INVALID_OPTION'
    })
  }
})

t.test('a row that has been fetched is given at once, one that has not as a promise', async (t) => {
  const rows = cursorRows(openPool(t, url), 'SELECT generate_series(1, 3)', [], { batchSize: 2 })
  const iterator = rows[Symbol.asyncIterator]()
  const first = iterator.next()
  t.type(first, Promise)
  t.strictSame(await first, { done: false, value: ['1'] })
  t.strictSame(iterator.next(), { done: false, value: ['2'] })
  t.strictSame(await collect(rows), [['3']])
})

/** For what sends no event. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

t.test('calls of next() that do not wait for each other get each row once, in order', async (t) => {
  const pool = openPool(t, url)
  const rows = cursorRows(pool, 'SELECT generate_series(1, 10)', [], { batchSize: 3 })
  const iterator = iterate(rows)
  const steps = await Promise.all(Array.from({ length: 12 }, () => iterator.next()))
  t.strictSame(
    steps.map(({ value }) => value?.[0]),
    [...Array.from({ length: 10 }, (_, n) => String(n + 1)), undefined, undefined]
  )
  await isUsable(t, pool)
})

/** The numbers of rows that cursors ask for from now on. */
function watchSizes(t: Test): number[] {
  const { read } = Cursor.prototype
  t.teardown(() => Object.assign(Cursor.prototype, { read }))
  const sizes: number[] = []
  Cursor.prototype.read = function (this: Cursor, size: number, ...rest: []) {
    sizes.push(size)
    return read.call(this, size, ...rest)
  } as typeof read
  return sizes
}

t.test('more and more rows are fetched at a time, up to a number of bytes', async (t) => {
  const sizes = watchSizes(t)
  const pool = openPool(t, url)
  const sizesOf = async (text: string, batchSize?: number) => {
    sizes.length = 0
    await collect(cursorRows(pool, text, [], { batchSize }))
    return [...sizes]
  }
  t.strictSame(await sizesOf('SELECT generate_series(1, 700)'), [100, 200, 400, 800])
  t.strictSame(
    (await sizesOf("SELECT repeat('x', 10000) FROM generate_series(1, 110)")).slice(0, 3),
    [100, 13, 13]
  )
  t.strictSame(
    (await sizesOf("SELECT repeat('x', 100000) FROM generate_series(1, 102)")).slice(0, 3),
    [100, 1, 1]
  )
  const names = Array.from({ length: 60 }, (_, n) => `'text' AS c${n}`)
  const wide = await sizesOf(`SELECT ${names} FROM generate_series(1, 200)`)
  t.strictSame(wide, [100, 68, 68, 68], 'cells take memory, too')
  // Those of a slow statement do not wait for many others.
  t.strictSame(await sizesOf('SELECT pg_sleep(0.011) FROM generate_series(1, 110)'), [100, 100, 100])
  t.strictSame(await sizesOf('SELECT null FROM generate_series(1, 5)'), [100, 100])
  t.strictSame(await sizesOf('SELECT generate_series(1, 5)', 3), [3, 3, 3])
  t.strictSame(await sizesOf('SELECT 1 WHERE false'), [100])
})

t.test('rows that become large wait on the server until they are asked for', async (t) => {
  const pool = openPool(t, url)
  let socket: Socket | undefined
  pool.on('connect', (client) => {
    socket = (client as unknown as { connection: { stream: Socket } }).connection.stream
  })
  const text = `SELECT n, CASE WHEN n > 1000 THEN repeat('x', 100000) END
    FROM generate_series(1, 1200) n`
  const sizes = (await collect(cursorRows(pool, text))).map(([n, body]) => [Number(n), body?.length])
  t.strictSame(
    sizes,
    Array.from({ length: 1200 }, (_, n) => [n + 1, n < 1000 ? undefined : 100_000])
  )
  const left = iterate(cursorRows(pool, text))
  const before = socket?.bytesRead ?? 0
  for (let row = 0; row < 1001; row++) await left.next()
  await until(() => socket?.isPaused() === true)
  const read = (socket?.bytesRead ?? 0) - before
  t.ok(read < 2_000_000, `${read} bytes`)
  await left.return()
  await isUsable(t, pool)
  t.equal(pool.totalCount, 1, 'it is the same connection')
  const failing = "SELECT repeat('x', 100000), 1 / (90 - n) FROM generate_series(1, 90) n"
  await t.rejects(collect(cursorRows(pool, failing)), { code: '22012' })
  const cancelled = new AbortController()
  const rows = iterate(cursorRows(pool, text.replace('1200', '100000'), [], { signal: cancelled.signal }))
  for (let row = 0; row < 1001; row++) await rows.next()
  await until(() => socket?.isPaused() === true)
  cancelled.abort(new Error('enough'))
  await t.rejects(Promise.resolve(rows.next()), { message: 'enough' })
})

t.test('the next batch is asked for when three quarters of one have been taken', async (t) => {
  const sizes = watchSizes(t)
  const rows = iterate(cursorRows(openPool(t, url), 'SELECT generate_series(1, 1000)'))
  for (let row = 0; row < 74; row++) await rows.next()
  t.strictSame(sizes, [100])
  await rows.next()
  t.strictSame(sizes, [100, 200])
  await rows.return()
})

t.test('a row that has been taken is held no longer', async (t) => {
  setFlagsFromString('--expose-gc')
  const rows = iterate(cursorRows(openPool(t, url), 'SELECT generate_series(1, 100)'))
  const take = async () => new WeakRef((await rows.next()).value as TextRow)
  const taken = [await take(), await take()]
  // What a WeakRef is made of lives until the end of the turn.
  await turn()
  runInNewContext('gc')()
  t.strictSame(
    taken.map((row) => row.deref()),
    [undefined, undefined]
  )
  t.strictSame((await rows.next()).value, ['3'])
  await rows.return()
})

t.test('a Readable and yield* read it', async (t) => {
  const pool = openPool(t, url)
  async function* delegated() {
    yield* cursorRows(pool, 'SELECT generate_series(1, 250)')
  }
  t.equal((await collect(delegated())).length, 250)
  t.equal((await Readable.from(cursorRows(pool, 'SELECT generate_series(1, 250)')).toArray()).length, 250)
  await isUsable(t, pool)
})

t.test('nothing is borrowed before the first row is asked for', async (t) => {
  const pool = openPool(t, url)
  const rows = iterate(cursorRows(pool, 'SELECT 1'))
  await rows.return()
  t.strictSame(await rows.next(), { done: true, value: undefined })
  t.equal(pool.totalCount, 0)
})

t.test('early return gives the connection back, with its cursor closed', async (t) => {
  const pool = openPool(t, url)
  for await (const _row of cursorRows(pool, 'SELECT * FROM cargoes LIMIT 50')) break
  const { rows } = await pool.query("SELECT name FROM pg_cursors WHERE name LIKE 'C\\_%'")
  t.strictSame(rows, [])
  t.equal(pool.totalCount, 1, 'it is the same connection')
})

t.test('what a statement writes is committed after its last row, and not when it is left', async (t) => {
  const pool = openPool(t, url)
  await database.query('CREATE TABLE written (id integer)')
  const text = 'INSERT INTO written SELECT generate_series(1, 3) RETURNING id'
  for await (const _row of cursorRows(pool, text)) break
  const { signal } = new AbortController()
  await isUsable(t, pool)
  t.equal((await database.query('SELECT 1 FROM written')).rows.length, 0)
  t.equal((await collect(cursorRows(pool, text, [], { signal }))).length, 3)
  t.equal((await database.query('SELECT 1 FROM written')).rows.length, 3)
  t.strictSame(await collect(cursorRows(pool, 'DELETE FROM written')), [])
  t.equal((await database.query('SELECT 1 FROM written')).rows.length, 0)
})

t.test('the names of the columns are PostgreSQL’s, in its order, also where there is no row', async (t) => {
  const pool = openPool(t, url)
  const text = 'SELECT 1 AS region, 2 AS "2024", 3 AS "2023", 4 AS "Straße, ""x"""'
  const columns = ['region', '2024', '2023', 'Straße, "x"']
  for (const where of ['', ' WHERE false']) {
    const rows = cursorRows(pool, text + where)
    t.equal(rows.columns, undefined)
    const first = await iterate(rows).next()
    t.strictSame(rows.columns, columns)
    if (where === '') t.strictSame(first.value, ['1', '2', '3', '4'])
    await iterate(rows).return()
  }
})

t.test('names are known before the first row is', async (t) => {
  const pool = openPool(t, url)
  const rows = cursorRows(pool, 'SELECT 1 AS one, pg_sleep(3600)')
  const iterator = iterate(rows)
  const pending = iterator.next()
  await until(() => rows.columns !== undefined)
  t.strictSame(rows.columns, ['one', 'pg_sleep'])
  await iterator.return()
  await pending
})

t.test('equal names are an error that names them, told before the rows are looked for', async (t) => {
  const pool = openPool(t, url)
  const text = 'SELECT 1 AS id, 2 AS name, 3 AS id, pg_sleep(3600)'
  await t.rejects(collect(cursorRows(pool, text)), { code: 'CSV_EXPORT_EQUAL_NAMES', message: /"id"/ })
  await isUsable(t, pool)
})

t.test('COPY takes no values', async (t) => {
  t.throws(() => copyRows(openPool(t, url), 'SELECT $1', [1]), { code: 'CSV_EXPORT_COPY_VALUES' })
})

t.test('pg-cursor hands over names and rows where they are read', async (t) => {
  for (const name of ['handleRowDescription', 'handleDataRow']) {
    t.type((Cursor.prototype as unknown as Record<string, unknown>)[name], 'function')
  }
})
