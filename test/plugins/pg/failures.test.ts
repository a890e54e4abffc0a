import { EventEmitter, once } from 'node:events'
import type { Socket } from 'node:net'
import type pg from 'pg'
import Cursor from 'pg-cursor'
import t, { type Test } from 'tap'
import { copyRows, cursorRows } from '../../../plugins/pg/index.ts'
import { connect, startDatabase, untilNoneBusy } from '../../database.ts'
import { collect, isUsable, iterate, openPool, until, untilBack, untilOver } from './pools.ts'
import { cancelRequest, relayed } from './relays.ts'

// A read that fails costs no connection: every pool here has one alone, which must be there for the next statement.

const url = await startDatabase(t, { rows: 2_000 })
const database = await connect(t, url)
const kinds = { cursorRows, copyRows }

/** After its first 300 rows the statement takes longer than it may. A cursor asks for the first of these when 193 are taken. */
const slow = `SELECT n, repeat('x', 1000) AS text, CASE WHEN n > 300 THEN pg_sleep(10) END FROM generate_series(1, 400) n`

for (const [kind, rowsOf] of Object.entries(kinds)) {
  t.test(`statement_timeout while a row is waited for: ${kind}`, async (t) => {
    const pool = openPool(t, url, { statement_timeout: 300 })
    await t.rejects(collect<unknown>(rowsOf(pool, slow)), { code: '57014' })
    await isUsable(t, pool)
    await untilNoneBusy(database)
  })

  t.test(`statement_timeout before a slow client asks: ${kind}`, async (t) => {
    const pool = openPool(t, url, { statement_timeout: 300 })
    const rows = iterate<unknown>(rowsOf(pool, slow, [], {}))
    for (let row = 0; row < (kind === 'cursorRows' ? 200 : 1); row++) await rows.next()
    await untilOver(database, '%pg_sleep%')
    await t.rejects(drain(rows), { code: '57014' })
    await isUsable(t, pool)
  })

  t.test(`pg_terminate_backend while a row is waited for: ${kind}`, async (t) => {
    const pool = openPool(t, url)
    const rows = collect<unknown>(rowsOf(pool, 'SELECT pg_sleep(3600)'))
    rows.catch(() => {})
    await until(database, '%pg_sleep(3600)%', 'active')
    await terminate('%pg_sleep(3600)%')
    await t.rejects(rows, { code: '57P01' })
    await isUsable(t, pool)
  })

  t.test(`pg_terminate_backend before a slow client asks: ${kind}`, async (t) => {
    const pool = openPool(t, url)
    const rows = iterate<unknown>(
      rowsOf(pool, 'SELECT repeat(md5(n::text), 100) FROM generate_series(1, 100000) n')
    )
    await rows.next()
    await terminate('%generate_series(1, 100000)%')
    await t.rejects(drain(rows))
    await isUsable(t, pool)
  })

  t.test(`a statement that fails: ${kind}`, async (t) => {
    const pool = openPool(t, url)
    await t.rejects(collect<unknown>(rowsOf(pool, 'SELECT nonsense')), { code: '42703' })
    await t.rejects(collect<unknown>(rowsOf(pool, 'SELECT 1 / (1000 - n) FROM generate_series(1, 2000) n')), {
      code: '22012'
    })
    await isUsable(t, pool)
  })

  t.test(`a statement that is none: ${kind}`, async (t) => {
    const pool = openPool(t, url)
    for (const text of [undefined, 5]) {
      t.throws(() => rowsOf(pool, text as unknown as string), { code: 'CSV_EXPORT_INVALID_OPTION' })
    }
    await isUsable(t, pool)
  })

  t.test(`a pool and values that are none: ${kind}`, (t) => {
    for (const pool of [undefined, {}]) {
      t.throws(() => rowsOf(pool as pg.Pool, 'SELECT 1'), {
        code: 'CSV_EXPORT_INVALID_OPTION',
        message: /^"pool" must be a pool of pg, got /
      })
    }
    const pool = openPool(t, url)
    for (const values of [null, 'abc', { signal: AbortSignal.abort() }]) {
      t.throws(() => rowsOf(pool, 'SELECT 1', values as unknown as []), {
        code: 'CSV_EXPORT_INVALID_OPTION',
        message: /^"values" must be an array, got /
      })
    }
    t.end()
  })

  t.test(`the pool's query_timeout: ${kind}`, async (t) => {
    const pool = openPool(t, url, { query_timeout: 300 })
    await t.rejects(collect<unknown>(rowsOf(pool, slow)), { code: 'CSV_EXPORT_DATABASE_UNAVAILABLE' })
    await isUsable(t, pool)
    await untilNoneBusy(database)
  })

  t.test(`a slow client ends the session of a statement that has failed: ${kind}`, async (t) => {
    const pool = openPool(t, url, { statement_timeout: 300 })
    const rows = iterate<unknown>(rowsOf(pool, slow))
    for (let row = 0; row < (kind === 'cursorRows' ? 200 : 1); row++) await rows.next()
    await untilOver(database, '%pg_sleep%')
    await rows.return()
    await untilBack(pool)
    await isUsable(t, pool)
  })
}

async function drain(rows: AsyncIterator<unknown>): Promise<void> {
  while (!(await rows.next()).done);
}

async function terminate(pattern: string): Promise<void> {
  const { rows } = await database.query(
    'SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE $1 AND pid <> pg_backend_pid()',
    [pattern]
  )
  if (rows.length !== 1) throw new Error(`${rows.length} sessions match`)
}

t.test('a value that cannot be prepared', async (t) => {
  const pool = openPool(t, url)
  await t.rejects(collect(cursorRows(pool, 'SELECT $1::json', [[{ a: 1n }]])), TypeError)
  await isUsable(t, pool)
})

t.test('a value that PostgreSQL refuses', async (t) => {
  const pool = openPool(t, url)
  await t.rejects(collect(cursorRows(pool, 'SELECT $1::uuid', ['none'])), { code: '22P02' })
  await isUsable(t, pool)
})

t.test('a deadlock or conflict that comes between two reads is no end of the rows', async (t) => {
  const relay = await relayed(t, url)
  const pool = openPool(t, relay.url)
  let connection = new EventEmitter()
  pool.on('acquire', (client) => {
    connection = (client as unknown as { connection: EventEmitter }).connection
  })
  const rows = iterate(cursorRows(pool, 'SELECT generate_series(1, 10)', [], { batchSize: 2 }))
  await rows.next()
  // The second read, which is ahead of its use.
  await once(connection, 'portalSuspended')
  const fields = Buffer.from('SERROR\0C40001\0Mconflict with recovery\0\0')
  const head = Buffer.from([0x45, 0, 0, 0, 4 + fields.length])
  const [socket] = relay.sockets as [Socket]
  socket.write(Buffer.concat([head, fields]))
  await once(connection, 'errorMessage')
  await t.rejects(drain(rows), { code: '40001' })
  await isUsable(t, pool)
})

t.test('a commit that fails is an error: what was read did not happen', async (t) => {
  const pool = openPool(t, url)
  await pool.query('CREATE TABLE later (id integer UNIQUE DEFERRABLE INITIALLY DEFERRED)')
  const text = 'INSERT INTO later SELECT 1 FROM generate_series(1, 2) RETURNING id'
  await t.rejects(collect(cursorRows(pool, text)), { code: '23505' })
  await isUsable(t, pool)
})

for (const lost of ['SELECT 3\0', 'COMMIT\0']) {
  t.test(
    `a connection lost after ${JSON.stringify(lost)}, before the server is ready again, is back at once`,
    async (t) => {
      const onAnswer = (answer: Buffer, app: Socket) => {
        if (answer.includes(lost)) app.end()
      }
      const relay = await relayed(t, url, { onAnswer })
      const pool = openPool(t, relay.url)
      const rows = collect(cursorRows(pool, 'SELECT generate_series(1, 3)'))
      if (lost === 'COMMIT\0') await rows
      else await t.rejects(rows, { code: 'CSV_EXPORT_DATABASE_UNAVAILABLE', statusCode: 503 })
      while (pool.totalCount > 0) await once(pool, 'remove')
      const cancels = relay.beginnings.filter((beginning) => cancelRequest.test(beginning.toString('hex')))
      t.equal(cancels.length, lost === 'COMMIT\0' ? 0 : 1, 'no answer to a cancel is waited for')
    }
  )
}

t.test('a connection that is lost while a row is awaited that nobody wants is back at once', async (t) => {
  const leaving = new AbortController()
  const onAnswer = (answer: Buffer, app: Socket) => {
    if (!answer.includes('SELECT 3\0')) return
    leaving.abort(new Error('the client is gone'))
    app.end()
  }
  const relay = await relayed(t, url, { onAnswer })
  const pool = openPool(t, relay.url)
  const { signal } = leaving
  await t.rejects(collect(cursorRows(pool, 'SELECT generate_series(1, 3)', [], { signal })), /is gone/)
  while (pool.totalCount > 0) await once(pool, 'remove')
  const cancels = relay.beginnings.filter((beginning) => cancelRequest.test(beginning.toString('hex')))
  t.equal(cancels.length, 1, 'no answer to a cancel is waited for')
})

/** Rows that are left between two batches, so that the connection is asked to come back, over a connection that passes nothing on from then on. */
async function leftUnanswered(t: Test) {
  const relay = await relayed(t, url)
  const pool = openPool(t, relay.url)
  const rows = iterate(cursorRows(pool, 'SELECT generate_series(1, 1000)'))
  await rows.next()
  const [socket] = relay.sockets as [Socket]
  // Neither what is sent nor an end passes from now on, as where a network is cut.
  socket.unpipe()
  socket.pause()
  const removed = once(pool, 'remove')
  await rows.return()
  return { pool, socket, removed }
}

t.test('a connection that does not come back clean in time is destroyed', async (t) => {
  const { pool, removed } = await leftUnanswered(t)
  await removed
  await isUsable(t, pool)
})

t.test('a connection that is lost before it comes back is given up at once', async (t) => {
  const { pool, socket, removed } = await leftUnanswered(t)
  const lostAt = performance.now()
  socket.resetAndDestroy()
  await removed
  const waited = performance.now() - lostAt
  t.ok(waited < 2_500, `${waited} ms, of 5,000 that an answer is waited for`)
  await isUsable(t, pool)
})

t.test('a database that is down is a 503', async (t) => {
  const pool = openPool(t, 'postgres://nobody@127.0.0.1:1/none')
  for (const rowsOf of [cursorRows, copyRows]) {
    await t.rejects(collect<unknown>(rowsOf(pool, 'SELECT 1')), {
      statusCode: 503,
      code: 'CSV_EXPORT_DATABASE_UNAVAILABLE',
      cause: { code: 'ECONNREFUSED' }
    })
  }
})

t.test('a pool that is full is a 503', async (t) => {
  const pool = openPool(t, url, { connectionTimeoutMillis: 100 })
  const client = await pool.connect()
  await t.rejects(collect(cursorRows(pool, 'SELECT 1')), {
    code: 'CSV_EXPORT_DATABASE_UNAVAILABLE',
    statusCode: 503
  })
  client.release()
  await isUsable(t, pool)
})

t.test('a pool whose connections run in pipeline mode is refused', async (t) => {
  const pool = openPool(t, url, { pipeline: true } as pg.PoolConfig)
  await t.rejects(collect(cursorRows(pool, 'SELECT 1')), { cause: { message: /pipeline/ } })
  await isUsable(t, pool)
})

t.test('an idle connection that the database ends does no harm', async (t) => {
  const pool = openPool(t, url)
  await collect(cursorRows(pool, 'SELECT 1'))
  // Not events.once(), which an 'error' event rejects.
  const removed = new Promise((resolve) => pool.once('remove', resolve))
  await database.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fastify-csv-export'"
  )
  await removed
  t.equal((await collect(cursorRows(pool, 'SELECT 1'))).length, 1)
})

t.test('a batch of more rows than PostgreSQL can be asked for', async (t) => {
  const pool = openPool(t, url)
  for (const batchSize of [2 ** 31, 2 ** 32]) {
    t.throws(() => cursorRows(pool, 'SELECT 1', [], { batchSize }), { code: 'CSV_EXPORT_INVALID_OPTION' })
  }
  t.equal((await collect(cursorRows(pool, 'SELECT 1', [], { batchSize: 2 ** 31 - 1 }))).length, 1)
  await isUsable(t, pool)
})

t.test('a cursor that throws instead of reading', async (t) => {
  const pool = openPool(t, url)
  const { read } = Cursor.prototype
  t.teardown(() => Object.assign(Cursor.prototype, { read }))
  Cursor.prototype.read = () => {
    throw new RangeError('no message can be made of it')
  }
  await t.rejects(collect(cursorRows(pool, 'SELECT 1')), { code: 'CSV_EXPORT_DATABASE_UNAVAILABLE' })
  Object.assign(Cursor.prototype, { read })
  await isUsable(t, pool)
})

t.test('COPY gives a cursor no rows', async (t) => {
  const pool = openPool(t, url)
  await pool.query('CREATE TABLE copied (id integer)')
  for (const text of ['COPY (SELECT 1) TO STDOUT', 'COPY copied FROM STDIN']) {
    await t.rejects(collect(cursorRows(pool, text)), {
      code: 'CSV_EXPORT_INVALID_OPTION',
      message: '"text" must be a statement that gives rows, got COPY: see copyRows()'
    })
    await isUsable(t, pool)
  }
})
