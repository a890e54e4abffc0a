import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { chownSync, statSync } from 'node:fs'
import pg from 'pg'
import t, { type Test } from 'tap'
import { PostgresFiles } from '../../../../plugins/runs/index.ts'
import { connect, startPostgres } from '../../../database.ts'
import { collect, openPool, until } from '../../pg/pools.ts'
import { relayed } from '../../pg/relays.ts'
import { bytesOf, contract, failsWhenFull } from './contract.ts'
import { openFiles } from './postgres-store.ts'
import { skipSmallDisk, smallDisk } from './small-disk.ts'

const chunkSize = 1_048_576
const postgres = await startPostgres(t, { rows: 0 })
const { url } = postgres
const database = await connect(t, url)
/** Sees what others do while that one has a transaction open. */
const watcher = await connect(t, url)

/** What the name of a schema may be. */
const schema = `Runs of "today", it's; --`
contract(t, await openFiles(t, url, { schema }), { large: 8 * chunkSize + 5 })

t.test('processes that start at once, and make their first files at once', async (t) => {
  for (let time = 0; time < 5; time++) {
    const options = { schema: `race_${time}` }
    const pools = Array.from({ length: 8 }, () => openPool(t, url))
    const stores = pools.map((pool) => new PostgresFiles({ pool, ...options }))
    await Promise.all(pools.map((pool) => pool.query('SELECT 1')))
    await Promise.all(stores.map((store) => store.prepare()))
    await Promise.all(stores.map((store) => store.create(randomUUID())))
    t.equal((await collect((stores[0] as PostgresFiles).list())).length, 8)
  }
})

t.test('a file of a slow report has many short chunks, read together', async (t) => {
  const { store, pool, downloads } = await openFiles(t, url, { schema: 'short' })
  const id = await fileOf(store, 0)
  const day = await dayOf(pool, 'short', id)
  const all = bytesOf(100_000)
  await pool.query(
    `INSERT INTO short.chunks_${day} SELECT $1, at, substring($2::bytea FROM at + 1 FOR 100) FROM generate_series(0, 99900, 100) at`,
    [id, all]
  )
  await pool.query('UPDATE short.files SET size = 100000 WHERE id = $1', [id])
  let queries = 0
  downloads.on('acquire', () => queries++)
  const pieces = await collect(store.read(id, 150, 99_950))
  t.ok(Buffer.concat(pieces).equals(all.subarray(150, 99_950)))
  t.equal(queries, 2, 'one for the row of the file, one for its chunks')
  await pool.query(`DELETE FROM short.chunks_${day} WHERE start = 5000`)
  await t.rejects(
    collect(store.read(id, 0, 100_000)),
    { code: 'CSV_EXPORT_FILE_INCOMPLETE' },
    'one is missing'
  )
})

t.test('a file of more than two GiB', async (t) => {
  const { store, pool } = await openFiles(t, url, { schema: 'huge' })
  const id = await fileOf(store, chunkSize)
  const start = 3 * 2 ** 30
  await pool.query(`UPDATE huge.chunks_${await dayOf(pool, 'huge', id)} SET start = start + $1`, [start])
  await pool.query('UPDATE huge.files SET size = size + $1', [start])
  const found = Buffer.concat(await collect(store.read(id, start + 10, start + chunkSize)))
  t.ok(found.equals(bytesOf(chunkSize).subarray(10)))
})

t.test('what is appended is not kept back for longer than a second', async (t) => {
  const { store, count } = await openFiles(t, url, { schema: 'late' })
  const id = randomUUID()
  const writer = await store.create(id)
  await writer.append(Buffer.alloc(10))
  t.equal(await count(id), 1, 'its row alone')
  const written = async () => {
    await writer.append(Buffer.alloc(10))
    return (await count(id)) === 2
  }
  while (!(await written()));
  await writer.seal()
})

t.test('tables of days without files are dropped, those with files are not', async (t) => {
  const { store, pool } = await openFiles(t, url, { schema: 'days' })
  const tables = async () =>
    (await pool.query("SELECT tablename FROM pg_tables WHERE schemaname = 'days' ORDER BY 1")).rows
      .map(({ tablename }) => tablename)
      .filter((name) => name.startsWith('chunks_'))
  const today = `chunks_${new Date().toISOString().slice(0, 10).replaceAll('-', '')}`
  const kept = await fileOf(store, 100)
  const removed = await fileOf(store, 100)
  const move = async (id: string, day: string): Promise<void> => {
    await pool.query(`CREATE TABLE days.chunks_${day} (LIKE days.${today} INCLUDING ALL)`)
    await pool.query(`INSERT INTO days.chunks_${day} SELECT * FROM days.${today} WHERE file_id = $1`, [id])
    await pool.query('UPDATE days.files SET day = $2 WHERE id = $1', [id, day])
  }
  await move(kept, '20200101')
  await move(removed, '20200102')
  await pool.query('CREATE TABLE days.chunks_of_somebody (); CREATE TABLE days.chunks_99990101 ()')
  const others = ['chunks_99990101', 'chunks_of_somebody']
  await store.sweep()
  t.same(await tables(), ['chunks_20200101', 'chunks_20200102', today, ...others].sort())
  await store.discard(removed)

  // Somebody reads the table: a backup, for hours.
  await database.query('BEGIN; LOCK TABLE days.chunks_20200102 IN ACCESS SHARE MODE')
  await store.sweep()
  t.same(await tables(), ['chunks_20200101', 'chunks_20200102', today, ...others].sort())
  await database.query('ROLLBACK')
  await Promise.all([store.sweep(), store.sweep(), store.sweep()])
  t.same(await tables(), ['chunks_20200101', today, ...others].sort())
  t.equal(Buffer.concat(await collect(store.read(kept, 0, 100))).length, 100)
})

t.test('a table is not dropped under a file that is just created', async (t) => {
  const { store, pool } = await openFiles(t, url, { schema: 'dropped' })
  await store.create(randomUUID())
  const name = (
    await pool.query(
      "SELECT tablename FROM pg_tables WHERE tablename LIKE 'chunks%' AND schemaname = 'dropped'"
    )
  ).rows[0].tablename
  await pool.query('DELETE FROM dropped.files')
  await pool.query(`ALTER TABLE dropped.${name} RENAME TO chunks_20200101`)
  // A process whose clock is wrong, or that was stopped, is about to add a file of that day.
  await database.query('BEGIN; SELECT pg_advisory_xact_lock(4203)')
  const sweep = store.sweep()
  await until(watcher, '%pg_advisory_xact_lock%', 'active')
  await database.query("INSERT INTO dropped.files (id, day) VALUES ($1, '20200101')", [randomUUID()])
  await database.query('COMMIT')
  await sweep
  t.equal(
    (await pool.query("SELECT to_regclass('dropped.chunks_20200101') AS found")).rows[0].found !== null,
    true
  )
})

t.test('errors of a sweep are told', async (t) => {
  const { store, pool } = await openFiles(t, url, { schema: 'told' })
  await pool.query(
    'CREATE VIEW told.x AS SELECT 1; CREATE TABLE told.chunks_20200101 (); DROP TABLE told.files'
  )
  await t.rejects(store.sweep(), { code: '42P01' })
})

t.test('a file begun before midnight is written after it', async (t) => {
  const { store, pool } = await openFiles(t, url, { schema: 'midnight' })
  const real = Date
  t.intercept(globalThis, 'Date', {
    value: class extends real {
      constructor() {
        super('2026-12-31T23:59:59.999Z')
      }
    }
  })
  const id = randomUUID()
  const writer = await store.create(id)
  Object.defineProperty(globalThis, 'Date', { value: real, configurable: true, writable: true })
  await writer.append(bytesOf(chunkSize + 1))
  await fileOf(store, 10)
  await store.sweep()
  await writer.seal()
  t.equal(await dayOf(pool, 'midnight', id), '20261231')
  t.ok(Buffer.concat(await collect(store.read(id, 0, chunkSize + 1))).equals(bytesOf(chunkSize + 1)))
})

t.test('nothing is left whatever isolation the database has by default', async (t) => {
  const options = '-c default_transaction_isolation=repeatable\\ read'
  const { store, pool, count } = await openFiles(t, url, { schema: 'isolated' }, { options })
  const id = randomUUID()
  const writer = await store.create(id)
  const table = `isolated.chunks_${await dayOf(pool, 'isolated', id)}`
  // Another one with its key holds the append up in the middle.
  await database.query('BEGIN')
  await database.query(`INSERT INTO ${table} VALUES ($1, 0, '')`, [id])
  const appending = writer.append(Buffer.alloc(chunkSize))
  await until(watcher, '%INSERT INTO "isolated".chunks%', 'active')
  const discarding = store.discard(id)
  await until(watcher, 'DELETE FROM%', 'active')
  await database.query('ROLLBACK')
  await Promise.all([appending, discarding])
  t.equal(await count(id), 0)
})

t.test('a connection that is lost fails its piece, and nothing else', async (t) => {
  const relay = await relayed(t, url)
  const { store, pool, downloads } = await openFiles(t, relay.url, { schema: 'lost' })
  const id = await fileOf(store, 1_000)
  const table = `lost.chunks_${await dayOf(pool, 'lost', id)}`
  await database.query(`BEGIN; LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`)
  const reading = collect(store.read(id, 0, 1_000))
  reading.catch(() => {})
  await until(watcher, '%COPY%', 'active')
  for (const socket of relay.sockets) socket.resetAndDestroy()
  await t.rejects(reading)
  await database.query('ROLLBACK')
  t.equal(downloads.totalCount, 0)
  t.equal(Buffer.concat(await collect(store.read(id, 0, 1_000))).length, 1_000)
})

t.test('a connection that is lost while a file is discarded leaves all of it', async (t) => {
  const relay = await relayed(t, url)
  const { store, pool, count } = await openFiles(t, relay.url, { schema: 'half' })
  const id = await fileOf(store, 1_000)
  await database.query('BEGIN; LOCK TABLE half.files IN ACCESS EXCLUSIVE MODE')
  const discarding = store.discard(id)
  discarding.catch(() => {})
  await until(watcher, 'DELETE FROM "half"%', 'active')
  for (const socket of relay.sockets) socket.resetAndDestroy()
  await t.rejects(discarding)
  t.equal(pool.totalCount, 0)
  await watcher.query(
    `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE query LIKE 'DELETE FROM "half"%'`
  )
  await database.query('ROLLBACK')
  t.equal(await count(id), 2)
  await store.discard(id)
  t.equal(await count(id), 0)
})

t.test('a sealed file outlives a crash of PostgreSQL', async (t) => {
  const own = await startPostgres(t, { rows: 0 })
  const { store } = await openFiles(t, own.url, { schema: 'crash' })
  for (let time = 0; time < 3; time++) {
    const id = await fileOf(store, 2 * chunkSize + 1)
    const ready = own.readyAgain()
    process.kill(own.pid, 'SIGKILL')
    await ready
    const found = Buffer.concat(await collect(store.read(id, 0, 2 * chunkSize + 1)))
    t.ok(found.equals(bytesOf(2 * chunkSize + 1)))
  }
})

t.test('a write that fails', async (t) => {
  const { store, pool, count } = await openFiles(t, url, { schema: 'fails' })
  const id = randomUUID()
  const writer = await store.create(id)
  const table = `fails.chunks_${await dayOf(pool, 'fails', id)}`
  await pool.query(`ALTER TABLE ${table} ADD CHECK (start < 100)`)
  await writer.append(Buffer.alloc(chunkSize))
  await t.rejects(writer.append(Buffer.alloc(chunkSize)), { code: '23514' })
  await t.rejects(collect(store.read(id, 0, 1)), { code: 'CSV_EXPORT_FILE_INCOMPLETE' })
  await store.discard(id)
  t.equal(await count(id), 0)
})

t.test('a disk that is full', { skip: skipSmallDisk }, async (t: Test) => {
  const room = 6 * chunkSize
  const folder = await smallDisk(t, room)
  const { uid, gid } = statSync(`/proc/${postgres.pid}`)
  chownSync(folder, uid, gid)
  execFileSync('chmod', ['o+x', `${folder}/..`])
  await database.query(`CREATE TABLESPACE small LOCATION '${folder}'`)
  const full = await openFiles(t, url, { schema: 'full' }, { options: '-c default_tablespace=small' })
  await failsWhenFull(t, full, room)
  // The folder goes before PostgreSQL does.
  await database.query('DROP SCHEMA "full" CASCADE')
  await database.query('DROP TABLESPACE small')
})

async function fileOf(store: PostgresFiles, length: number): Promise<string> {
  const id = randomUUID()
  const writer = await store.create(id)
  await writer.append(bytesOf(length))
  await writer.seal()
  return id
}

async function dayOf(pool: pg.Pool, schema: string, id: string): Promise<string> {
  const { rows } = await pool.query(`SELECT day FROM ${pg.escapeIdentifier(schema)}.files WHERE id = $1`, [
    id
  ])
  return rows[0].day
}
