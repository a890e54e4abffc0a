import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import postgres, { type PostgresOptions, type TextRow } from '../../database/postgres.ts'
import { prepareDatabase } from '../../database/prepare.ts'
import { connect, copyToCsv, startDatabase, untilNoneBusy } from '../database.ts'

const url = await startDatabase(t, { rows: 2_000 })
const database = await connect(t, url)

async function build(t: Test, options: Partial<PostgresOptions> = {}): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(postgres, { url, ...options })
  t.teardown(() => app.close())
  return app
}

async function collect(batches: AsyncIterable<TextRow[]>): Promise<TextRow[]> {
  const all: TextRow[] = []
  for await (const batch of batches) all.push(...batch)
  return all
}

/** Waits, by the database's own word, until the statement runs there. */
async function untilRunning(pattern: string): Promise<void> {
  const text =
    "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()"
  while ((await database.query(text, [pattern])).rows.length === 0);
}

const everything = `SELECT 9007199254740993::bigint AS big, 1.10::numeric AS exact, 0.1::float8 + 0.2 AS float,
  timestamptz '2024-02-29 12:34:56.123456+05' AS time, date '0044-03-15 BC' AS day, interval '1 day 2 hours' AS span,
  '' AS empty, NULL AS none, true AS yes, ARRAY[1, NULL] AS list, '\\x00ff'::bytea AS bytes`

t.test('values come as the text that COPY writes', async (t) => {
  const app = await build(t)
  const [row] = await collect(app.postgres.batches(everything))
  const text = (row as TextRow).map((value) => (value === '' ? '""' : (value ?? '')))
  const copied = (await copyToCsv(database, everything)).split('\n')[1]
  t.equal(text.map((value) => (value.includes(',') ? `"${value}"` : value)).join(','), copied)
})

t.test('dates do not depend on the settings of the server', async (t) => {
  await database.query(
    "ALTER ROLE postgres SET TimeZone = 'Asia/Tokyo'; ALTER ROLE postgres SET DateStyle = 'SQL, DMY'"
  )
  t.teardown(() => database.query('ALTER ROLE postgres RESET TimeZone; ALTER ROLE postgres RESET DateStyle'))
  const app = await build(t)
  t.strictSame(await collect(app.postgres.batches("SELECT timestamptz '2024-02-29 00:00Z' AS time")), [
    ['2024-02-29 00:00:00+00']
  ])
})

for (const count of [0, 1, 99, 100, 101, 200]) {
  t.test(`${count} rows in batches of 100`, async (t) => {
    const app = await build(t, { maxConnections: 1 })
    const text = 'SELECT n::text FROM generate_series(1, $1::integer) n'
    t.equal((await collect(app.postgres.batches(text, [count], { batchSize: 100 }))).length, count)
    t.equal((await collect(app.postgres.batches(text, [count], { batchSize: 100 }))).length, count)
  })
}

t.test('early return gives the connection back, with its cursor closed', async (t) => {
  const app = await build(t, { maxConnections: 1 })
  for await (const _row of app.postgres.batches('SELECT * FROM cargoes')) break
  const client = await app.postgres.pool.connect()
  t.strictSame((await client.query("SELECT name FROM pg_cursors WHERE name LIKE 'C\\_%'")).rows, [])
  client.release()
  t.equal(app.postgres.pool.totalCount, 1, 'it is the same connection')
})

t.test('a failing statement rejects and holds no connection', async (t) => {
  const app = await build(t, { maxConnections: 1 })
  await t.rejects(collect(app.postgres.batches('SELECT nonsense')), { code: '42703' })
  await t.rejects(collect(app.postgres.batches('SELECT 1 / (1000 - n) FROM generate_series(1, 2000) n')), {
    code: '22012'
  })
  t.equal((await collect(app.postgres.batches('SELECT 1 AS one'))).length, 1)
})

t.test('abort ends a statement that is being waited for, on the server too', async (t) => {
  const app = await build(t, { maxConnections: 1 })
  const controller = new AbortController()
  const rows = collect(app.postgres.batches('SELECT pg_sleep(3600)', [], controller))
  rows.catch(() => {})
  await untilRunning('SELECT pg_sleep%')
  const reason = new Error('the client left')
  controller.abort(reason)
  await t.rejects(rows, reason)
  await untilNoneBusy(database)
  t.equal((await collect(app.postgres.batches('SELECT 1 AS one'))).length, 1)
})

t.test('abort between two batches keeps the connection', async (t) => {
  const app = await build(t, { maxConnections: 1 })
  const controller = new AbortController()
  const rows = app.postgres.batches('SELECT * FROM cargoes', [], { signal: controller.signal, batchSize: 1 })
  await rows.next()
  controller.abort(new Error('the client left'))
  await t.rejects(rows.next(), /the client left/)
  t.equal((await collect(app.postgres.batches('SELECT 1 AS one'))).length, 1)
  await untilNoneBusy(database)
})

t.test('abort while waiting for a connection gives up at once, and loses none', async (t) => {
  const app = await build(t, { maxConnections: 1 })
  const client = await app.postgres.pool.connect()
  const controller = new AbortController()
  const rows = collect(app.postgres.batches('SELECT 1', [], controller))
  rows.catch(() => {})
  controller.abort(new Error('the client left'))
  await t.rejects(rows, /the client left/)
  client.release()
  t.equal((await collect(app.postgres.batches('SELECT 1 AS one'))).length, 1)
  await t.rejects(collect(app.postgres.batches('SELECT 1', [], { signal: AbortSignal.abort() })), {
    name: 'AbortError'
  })
})

t.test('a connection that the database ends between two batches is an error, not the end', async (t) => {
  const app = await build(t, { maxConnections: 1 })
  const rows = app.postgres.batches('SELECT * FROM cargoes /* ended */', [], { batchSize: 1 })
  await rows.next()
  await database.query(
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE '%* ended *%' AND pid <> pg_backend_pid()"
  )
  await t.rejects(collect(rows))
  t.equal((await collect(app.postgres.batches('SELECT 1 AS one'))).length, 1)
})

t.test('an idle connection that the database ends does no harm', async (t) => {
  const app = await build(t, { maxConnections: 1 })
  await collect(app.postgres.batches('SELECT 1'))
  const removed = new Promise((resolve) => app.postgres.pool.once('remove', resolve))
  await database.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fastify-csv-export'"
  )
  await removed
  t.equal((await collect(app.postgres.batches('SELECT 1 AS one'))).length, 1)
})

t.test('a database that is down is a 503', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  const app = await build(t, { url: `postgres://nobody@127.0.0.1:${port}/none` })
  await t.rejects(collect(app.postgres.batches('SELECT 1')), {
    statusCode: 503,
    code: 'DATABASE_UNAVAILABLE'
  })
})

t.test('several processes that start together prepare the database once', async (t) => {
  await database.query('CREATE DATABASE shared')
  const shared = url.replace(/postgres$/, 'shared')
  const seen: number[] = []
  await Promise.all(
    [1, 2, 3].map(() => prepareDatabase(shared, { rows: 500, onProgress: (done) => seen.push(done) }))
  )
  t.strictSame(seen, [500])
  const client = await connect(t, shared)
  const query =
    'SELECT number, commodity, origin, destination, weight, shipped_at, delivered_on FROM cargoes ORDER BY id LIMIT 500'
  t.equal(
    await copyToCsv(client, query),
    await copyToCsv(database, query),
    'the same seed makes the same cargoes'
  )
})

/** A database behind a relay that hands each answer to `onAnswer` after it has passed it on; its connection string. */
async function relayed(t: Test, onAnswer: (answer: Buffer, app: Socket) => void): Promise<string> {
  const { hostname, port } = new URL(url)
  const relay = createServer((app) => {
    const server = connectSocket(Number(port), hostname)
    for (const socket of [app, server]) socket.on('error', () => {})
    app.pipe(server)
    app.on('close', () => server.destroy())
    server.on('data', (answer: Buffer) => {
      app.write(answer)
      onAnswer(answer, app)
    })
  }).listen(0, '127.0.0.1')
  await once(relay, 'listening')
  t.teardown(() => relay.close())
  const address = new URL(url)
  address.host = `127.0.0.1:${(relay.address() as AddressInfo).port}`
  return address.href
}

t.test('a connection lost after the last row, before the server is ready again, is an error', async (t) => {
  const relay = await relayed(t, (answer, app) => {
    if (answer.includes('SELECT 3\0')) app.end()
  })
  const app = await build(t, { url: relay })
  await t.rejects(collect(app.postgres.batches('SELECT generate_series(1, 3)')), {
    code: 'DATABASE_UNAVAILABLE'
  })
  t.equal(app.postgres.pool.totalCount, 0)
})

t.test('an error that comes between two reads is no end of the rows', async (t) => {
  let connection = new EventEmitter()
  let socket: Socket | undefined
  const relay = await relayed(t, (_answer, app) => {
    socket = app
  })
  const app = await build(t, { url: relay })
  app.postgres.pool.on('acquire', (client) => {
    connection = (client as unknown as { connection: EventEmitter }).connection
  })
  const rows = app.postgres.batches('SELECT generate_series(1, 10)', [], { batchSize: 2 })
  await rows.next()
  // The second read, which is ahead of its use.
  await once(connection, 'portalSuspended')
  const fields = Buffer.from('SERROR\0C40001\0Mconflict with recovery\0\0')
  const head = Buffer.from([0x45, 0, 0, 0, 4 + fields.length])
  socket?.write(Buffer.concat([head, fields]))
  await once(connection, 'readyForQuery')
  await t.rejects(collect(rows), { code: '40001' })
  t.equal(app.postgres.pool.totalCount, 0)
})

t.test('a process that ends once its server has closed leaves no statement running', async (t) => {
  const code = `
    import Fastify from 'fastify'
    import postgres from './database/postgres.ts'
    const app = await Fastify().register(postgres, { url: process.argv[1] })
    const aborter = new AbortController()
    app.addHook('preClose', async () => aborter.abort())
    app.postgres.batches('SELECT pg_sleep(600)', [], { signal: aborter.signal }).next().catch(() => {})
    process.on('message', async () => {
      await app.close()
      process.exit()
    })`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', code, url], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc']
  })
  await untilRunning('SELECT pg_sleep(600)%')
  child.send('close')
  t.strictSame(await once(child, 'exit'), [0, null])
  await untilNoneBusy(database)
})
