import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { copyRows, cursorRows } from '../../../plugins/pg/index.ts'
import { connect, startDatabase, temporaryFolder, untilNoneBusy } from '../../database.ts'
import { collect, isUsable, iterate, openPool, until, untilBack } from './pools.ts'
import { cancelRequest, makeCertificate, relayed } from './relays.ts'

const url = await startDatabase(t, { rows: 2_000 })
const database = await connect(t, url)
const kinds = { cursorRows, copyRows }
const sleep = 'SELECT pg_sleep(3600)'
const left = new Error('the client left')

for (const [kind, rowsOf] of Object.entries(kinds)) {
  t.test(`the signal ends a statement that is waited for, on the server too: ${kind}`, async (t) => {
    const pool = openPool(t, url)
    const controller = new AbortController()
    const rows = iterate<unknown>(rowsOf(pool, sleep, [], { signal: controller.signal }))
    const pending = rows.next()
    pending.catch(() => {})
    await until(database, `%${sleep}%`, 'active')
    controller.abort(left)
    await t.rejects(pending, left)
    t.strictSame(await rows.next(), { done: true, value: undefined })
    await untilNoneBusy(database)
    await untilBack(pool)
    await isUsable(t, pool)
  })

  t.test(`without a signal return() ends it, also while next() is pending: ${kind}`, async (t) => {
    const pool = openPool(t, url)
    const rows = iterate<unknown>(rowsOf(pool, sleep))
    const pending = rows.next()
    await until(database, `%${sleep}%`, 'active')
    t.strictSame(await rows.return(), { done: true, value: undefined })
    t.strictSame(await pending, { done: true, value: undefined })
    await untilNoneBusy(database)
    await untilBack(pool)
    await isUsable(t, pool)
  })

  t.test(`a role that may have one connection can cancel: ${kind}`, async (t) => {
    const pool = openPool(t, await limitedTo(t, 1))
    const rows = iterate<unknown>(rowsOf(pool, sleep))
    rows.next()
    await until(database, `%${sleep}%`, 'active')
    await rows.return()
    await untilNoneBusy(database)
  })

  t.test(`a signal that has fired, or fires while a connection is waited for: ${kind}`, async (t) => {
    const pool = openPool(t, url)
    await t.rejects(collect<unknown>(rowsOf(pool, 'SELECT 1', [], { signal: AbortSignal.abort(left) })), left)
    t.equal(pool.totalCount, 0)
    const client = await pool.connect()
    const controller = new AbortController()
    const rows = collect<unknown>(rowsOf(pool, 'SELECT 1', [], { signal: controller.signal }))
    rows.catch(() => {})
    const other = iterate<unknown>(rowsOf(pool, 'SELECT 1'))
    const pending = other.next()
    while (pool.waitingCount < 2) await turn()
    controller.abort(left)
    await t.rejects(rows, left)
    await other.return()
    t.strictSame(await pending, { done: true, value: undefined })
    client.release()
    await isUsable(t, pool)
  })

  t.test(`a signal is let go of at every end: ${kind}`, async (t) => {
    const pool = openPool(t, url)
    const { signal, listeners } = spiedSignal()
    await collect<unknown>(rowsOf(pool, 'SELECT 1', [], { signal }))
    await collect<unknown>(rowsOf(pool, 'SELECT nonsense', [], { signal })).catch(() => {})
    for await (const _row of rowsOf(pool, 'SELECT 1', [], { signal }) as AsyncIterable<unknown>) break
    t.equal(listeners.size, 0)
  })
}

function spiedSignal(): { signal: AbortSignal; listeners: Set<unknown> } {
  const { signal } = new AbortController()
  const listeners = new Set<unknown>()
  const { addEventListener, removeEventListener } = signal
  signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
    listeners.add(args[1])
    addEventListener.apply(signal, args)
  }
  signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
    listeners.delete(args[1])
    removeEventListener.apply(signal, args)
  }
  return { signal, listeners }
}

/** Connection string of a role that may have so many connections, and no more. */
async function limitedTo(t: Test, limit: number): Promise<string> {
  await database.query(`CREATE ROLE limited LOGIN PASSWORD 'limited' CONNECTION LIMIT ${limit}`)
  t.teardown(() => database.query('DROP ROLE limited'))
  const limited = new URL(url)
  limited.username = 'limited'
  limited.password = 'limited'
  return limited.href
}

t.test('the signal between two batches keeps the connection', async (t) => {
  const pool = openPool(t, url)
  const controller = new AbortController()
  const { signal } = controller
  const rows = iterate(cursorRows(pool, 'SELECT * FROM cargoes', [], { signal }))
  const connection = once(pool, 'acquire')
  // So many that the second batch is asked for.
  for (let row = 0; row < 75; row++) await rows.next()
  await once((await connection)[0].connection, 'portalSuspended')
  // pg-cursor hands rows over one turn later.
  await turn()
  await turn()
  controller.abort(left)
  await untilBack(pool)
  await t.rejects(rows.next(), left)
  t.equal(pool.totalCount, 1)
  const text =
    "SELECT (SELECT count(*) FROM pg_cursors WHERE name LIKE 'C\\_%'), current_setting('TimeZone') = 'UTC'"
  t.equal(((await pool.query(text)).rows[0] as { count: string }).count, '0')
})

for (const way of ['return', 'abort'] as const) {
  t.test(`rows that have come but are not taken yet are dropped: ${way}`, async (t) => {
    const pool = openPool(t, url)
    const controller = new AbortController()
    const { signal } = controller
    const rows = iterate(cursorRows(pool, 'SELECT generate_series(1, 10)', [], { batchSize: 2, signal }))
    const connection = once(pool, 'acquire')
    await rows.next()
    await rows.next()
    await once((await connection)[0].connection, 'portalSuspended')
    await turn()
    await turn()
    const [third, fourth] = [rows.next(), rows.next()]
    for (const pending of [third, fourth]) pending.catch(() => {})
    if (way === 'return') await rows.return()
    else controller.abort(left)
    if (way === 'return') t.strictSame(await third, { done: true, value: undefined })
    else await t.rejects(third, left)
    t.strictSame(await fourth, { done: true, value: undefined })
    await isUsable(t, pool)
  })
}

t.test('a statement whose rows wait on the server is cancelled when they are left', async (t) => {
  const pool = openPool(t, url)
  const text = `SELECT CASE WHEN n < 7 THEN repeat('x', 100000) ELSE pg_sleep(3600)::text END
    FROM generate_series(1, 10) n`
  const rows = iterate(cursorRows(pool, text))
  await rows.next()
  await rows.return()
  await untilNoneBusy(database)
  await untilBack(pool)
  await isUsable(t, pool)
})

t.test('a signal that fires just when a batch is taken', async (t) => {
  for (let microtasks = 0; microtasks < 3; microtasks++) {
    const pool = openPool(t, url)
    const controller = new AbortController()
    const { signal } = controller
    const rows = cursorRows(pool, 'SELECT generate_series(1, 10)', [], { batchSize: 1, signal })
    const iterator = rows[Symbol.asyncIterator]()
    const connection = once(pool, 'acquire')
    await iterator.next()
    await once((await connection)[0].connection, 'portalSuspended')
    await turn()
    await turn()
    const second = iterator.next()
    second.catch(() => {})
    for (let microtask = 0; microtask < microtasks; microtask++) await undefined
    controller.abort(left)
    await t.rejects(second, left, `${microtasks}`)
    await isUsable(t, pool)
  }
})

t.test(
  'a connection whose statement was cancelled is destroyed, as a late cancel would hit the next one',
  async (t) => {
    const pool = openPool(t, url)
    const removed = once(pool, 'remove')
    const rows = iterate(cursorRows(pool, sleep))
    rows.next()
    await until(database, sleep, 'active')
    await rows.return()
    await removed
    t.equal(pool.totalCount, 0)
  }
)

/** By then the statement has begun: a cancel that comes before that is lost. */
async function untilAsleep(): Promise<void> {
  const text = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
  while ((await database.query(text)).rows.length === 0);
}

/** Cancels through a relay, and looks at what came there. */
async function cancelThrough(t: Test, relay: { beginnings: Buffer[] }, pool: pg.Pool): Promise<void> {
  const rows = iterate(cursorRows(pool, sleep))
  const pending = rows.next()
  await untilAsleep()
  const { rows: sessions } = await database.query('SELECT pid FROM pg_stat_activity WHERE query = $1', [
    sleep
  ])
  await rows.return()
  t.strictSame(await pending, { done: true, value: undefined })
  await untilNoneBusy(database)
  const [, second, ...others] = relay.beginnings.map((beginning) => beginning.toString('hex'))
  t.match(second, cancelRequest, 'the second connection brings 16 bytes')
  t.equal((relay.beginnings[1] as Buffer).readInt32BE(8), sessions[0].pid)
  t.strictSame(others, [])
  await isUsable(t, pool)
}

t.test('a cancel goes to the host and port of the pool', async (t) => {
  const relay = await relayed(t, url)
  await cancelThrough(t, relay, openPool(t, relay.url))
})

t.test('a cancel goes through the UNIX socket of the pool', async (t) => {
  const folder = await temporaryFolder(t)
  const relay = await relayed(t, url, { path: join(folder, '.s.PGSQL.5432') })
  const { username: user, password } = new URL(url)
  const options = {
    connectionString: undefined,
    host: folder,
    port: 5432,
    user,
    password,
    database: 'postgres'
  }
  await cancelThrough(t, relay, openPool(t, url, options as pg.PoolConfig))
})

for (const tls of ['asked', 'direct'] as const) {
  t.test(`a cancel goes through TLS that checks the server: ${tls}`, async (t) => {
    const certificate = await makeCertificate(t)
    const relay = await relayed(t, url, { tls, certificate })
    const { username: user, password } = new URL(url)
    const options = {
      connectionString: undefined,
      ...{ host: 'localhost', port: relay.port, user, password, database: 'postgres' },
      ssl: { ca: certificate.cert },
      ...(tls === 'direct' ? { sslnegotiation: 'direct' } : {})
    }
    await cancelThrough(t, relay, openPool(t, url, options as pg.PoolConfig))
  })
}

t.test('a cancel that the server has lost is sent again', async (t) => {
  let cancels = 0
  const relay = await relayed(t, url, {
    refuses: (beginning) => cancelRequest.test(beginning.toString('hex')) && ++cancels <= 2
  })
  const pool = openPool(t, relay.url)
  const rows = iterate(cursorRows(pool, sleep))
  rows.next()
  await untilAsleep()
  await rows.return()
  await untilNoneBusy(database)
  t.equal(cancels, 3)
  await isUsable(t, pool)
})

t.test('a cancel goes over a stream of the pool’s own making', async (t) => {
  const relay = await relayed(t, url)
  let made = 0
  const stream = () => {
    made++
    return new Socket()
  }
  const pool = openPool(t, relay.url, { stream } as pg.PoolConfig)
  const rows = iterate(cursorRows(pool, sleep))
  rows.next()
  await until(database, sleep, 'active')
  await rows.return()
  await untilNoneBusy(database)
  t.equal(made, 2)
})

t.test('pg keeps what a CancelRequest needs where it is read', async (t) => {
  const pool = openPool(t, url)
  const client = await pool.connect()
  const { processID, secretKey, connection } = client as unknown as Record<string, any>
  const { rows } = await client.query('SELECT pg_backend_pid() AS pid')
  client.release()
  t.equal(processID, rows[0].pid)
  t.ok(Number.isInteger(secretKey))
  t.type(connection.startup, 'function')
  t.type(connection.cancel, 'function')
  t.equal(client.constructor, pg.Client)
})

t.test('a connection is destroyed, too, where a cancel cannot even be made', async (t) => {
  const pool = openPool(t, url, { query_timeout: 200 })
  for (const rowsOf of [cursorRows, copyRows]) {
    const removed = once(pool, 'remove')
    const options = pool.options as { stream?: unknown }
    pool.once('acquire', () => {
      options.stream = () => {
        throw new Error('no more sockets')
      }
    })
    await t.rejects(collect<unknown>(rowsOf(pool, 'SELECT pg_sleep(1)')), { cause: { message: /timeout/ } })
    await removed
    delete options.stream
  }
  await isUsable(t, pool)
})

// These wait for seconds, as exports do for a database that does not answer, so they do it at the same time.
t.test('what waits for a cancellation in vain', async (t) => {
  t.jobs = 2
  const together = { buffered: true }

  t.test('without what a CancelRequest needs, the connection is destroyed', together, async (t) => {
    const pool = openPool(t, url)
    pool.on('connect', (client) => {
      delete (client as unknown as { processID?: number }).processID
    })
    const removed = once(pool, 'remove')
    const rows = iterate(cursorRows(pool, 'SELECT pg_sleep(2)'))
    rows.next()
    await until(database, 'SELECT pg_sleep(2)', 'active')
    await rows.return()
    await removed
    t.equal(pool.totalCount, 0)
  })

  t.test('a cancel that gets no answer is waited for no longer than some seconds', together, async (t) => {
    const relay = await relayed(t, url)
    const pool = openPool(t, relay.url)
    const rows = iterate(cursorRows(pool, sleep))
    rows.next()
    await until(database, sleep, 'active')
    relay.swallow()
    await rows.return()
    await isUsable(t, openPool(t, url))
    while (pool.totalCount > 0) await once(pool, 'remove')
    await database.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = $1', [sleep])
  })
})

t.test('a process whose pool has ended ends, too, whatever its query_timeout', async (t) => {
  const code = `
    import pg from 'pg'
    import { copyRows, cursorRows } from './plugins/pg/index.ts'
    const pool = new pg.Pool({ connectionString: process.argv[1], query_timeout: 3_600_000 })
    for await (const _row of cursorRows(pool, 'SELECT 1'));
    for await (const _row of copyRows(pool, 'SELECT 1'));
    for await (const _row of cursorRows(pool, 'SELECT generate_series(1, 1000)')) break
    await pool.end()`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', code, url], { stdio: 'inherit' })
  t.teardown(() => child.kill())
  t.strictSame(await once(child, 'exit'), [0, null])
})

t.test('a process that ends once its pool has ended leaves no statement running', async (t) => {
  const code = `
    import pg from 'pg'
    import { cursorRows } from './plugins/pg/index.ts'
    const pool = new pg.Pool({ connectionString: process.argv[1], application_name: 'fastify-csv-export' })
    const rows = cursorRows(pool, '${sleep}')[Symbol.asyncIterator]()
    rows.next()
    process.on('message', async () => {
      rows.return()
      await pool.end()
      process.exit()
    })`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', code, url], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc']
  })
  await until(database, sleep, 'active')
  child.send('close')
  t.strictSame(await once(child, 'exit'), [0, null])
  await untilNoneBusy(database)
})
