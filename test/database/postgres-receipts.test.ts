import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { PostgresReceipts, type PostgresReceiptsOptions } from '../../database/postgres-receipts.ts'
import { freePort } from '../../database/postmaster.ts'
import { prepareDatabase } from '../../database/prepare.ts'
import type { Receipt } from '../../plugins/csv-export/index.ts'
import { connect, serveApp, startPostgres } from '../database.ts'
import { Log } from '../helper.ts'

const postgres = await startPostgres(t, { rows: 0 })
const { url } = postgres

function openReceipts(t: Test, options: Partial<PostgresReceiptsOptions> = {}) {
  const log = new Log()
  const app = Fastify({ logger: { stream: log.stream } })
  const receipts = new PostgresReceipts({ url, log: app.log, ...options })
  app.addHook('onClose', () => receipts.close())
  t.teardown(() => app.close())
  return { receipts, log, close: () => app.close() }
}

function receipt(values: Partial<Receipt> = {}): Receipt {
  return {
    id: randomUUID(),
    requestId: 'req-1',
    report: '/reports/cargoes.csv',
    status: 'source_failed',
    rows: 3,
    bytes: 42,
    startedAt: '2026-01-31T23:59:59.999Z',
    firstByteAfter: 1.234,
    duration: 56.789,
    contentCoding: null,
    sentBytes: 42,
    escapedCells: 0,
    columnsWithoutValue: null,
    keysWithoutColumn: null,
    errorCode: 'EIO',
    sha256: null,
    ...values
  }
}

t.test('a receipt is read as it was put, by another store too', async (t) => {
  const { receipts } = openReceipts(t)
  const { receipts: other } = openReceipts(t)
  const all = [
    receipt(),
    receipt({ errorCode: '\0 "\ud800\\ {é}', firstByteAfter: null, status: 'client_gone' }),
    receipt({ columnsWithoutValue: { count: 2, names: ['\0 "\ud800', 'é'] } })
  ]
  for (const one of all) await receipts.put(one)
  for (const one of all) {
    for (const store of [receipts, other]) t.strictSame(await store.get(one.id), one)
  }
  t.equal(
    JSON.stringify(await other.get((all[0] as Receipt).id)),
    JSON.stringify(all[0]),
    'in the same order'
  )
  t.equal(await receipts.get(randomUUID()), undefined)
})

t.test('many at once are all kept, and one put twice is kept once', async (t) => {
  const { receipts } = openReceipts(t)
  const all = Array.from({ length: 2_500 }, () => receipt())
  await Promise.all([...all, ...all].map((one) => receipts.put(one)))
  const database = await connect(t, url)
  const ids = all.map(({ id }) => id)
  const { rows } = await database.query('SELECT count(*)::integer FROM receipts WHERE id = ANY ($1)', [ids])
  t.equal(rows[0].count, 2_500)
})

t.test('a start is on record until the export has ended', async (t) => {
  const { receipts } = openReceipts(t)
  const { receipts: other } = openReceipts(t)
  const [one, another] = [receipt(), receipt()]
  const start = ({ id, report, startedAt }: Receipt) => ({ id, report, startedAt })
  await receipts.begin(start(one))
  t.equal(await other.get(one.id), undefined)
  t.strictSame(await other.startOf(one.id), start(one))

  await receipts.put(one)
  t.strictSame(await other.get(one.id), one)
  t.equal(await other.startOf(one.id), undefined)

  await Promise.all([receipts.begin(start(another)), receipts.put(another)])
  t.strictSame(await other.get(another.id), another, 'ended while its start was written')
  await receipts.begin(start(another))
  t.strictSame(await other.get(another.id), another, 'a start that comes late undoes no end')
})

t.test('a receipt that is too old is gone, and soon deleted', async (t) => {
  const { receipts } = openReceipts(t)
  const [old, young] = [receipt(), receipt()]
  await receipts.put(old)
  await receipts.put(young)
  const database = await connect(t, url)
  const age = "UPDATE receipts SET kept_since = now() - $2 * interval '1 day' WHERE id = $1"
  await database.query(age, [old.id, 30.001])
  await database.query(age, [young.id, 29.999])
  const { receipts: other } = openReceipts(t)
  t.equal(await other.get(old.id), undefined)
  t.strictSame(await other.get(young.id), young)

  // A store's first write finds it is time to delete.
  await openReceipts(t).receipts.put(receipt())
  const { rows } = await database.query('SELECT id FROM receipts WHERE id IN ($1, $2)', [old.id, young.id])
  t.strictSame(rows, [{ id: young.id }])
  t.strictSame(await openReceipts(t, { maxAge: 10 }).receipts.get(young.id), undefined)
})

t.test('deletion finds the old ones by the index', async (t) => {
  const database = await connect(t, url)
  await database.query('SET enable_seqscan = off')
  const { rows } = await database.query(
    "EXPLAIN SELECT 1 FROM receipts WHERE kept_since <= now() - interval '1 day'"
  )
  t.match(JSON.stringify(rows), 'receipts_by_age')
})

t.test(
  'a receipt put while the database is away is found at once, and written when it is back',
  async (t) => {
    const { receipts, log } = openReceipts(t)
    await receipts.put(receipt())
    process.kill(postgres.pid, 'SIGKILL')
    await log.find(/idle connection of the receipts was lost/)
    const held = [receipt(), receipt(), receipt()]
    for (const one of held) await receipts.put(one)
    for (const one of held) t.strictSame(await receipts.get(one.id), one)
    t.equal(log.lines.filter(({ msg }) => /receipts wait in memory/.test(msg)).length, 1, 'said once')
    await log.find(/receipts are written again/)
    const { receipts: other } = openReceipts(t)
    for (const one of held) t.strictSame(await other.get(one.id), one)
  }
)

t.test('what was acknowledged outlives a crash of the database', async (t) => {
  const { receipts } = openReceipts(t)
  const one = receipt()
  await receipts.put(one)
  const ready = postgres.readyAgain()
  process.kill(postgres.pid, 'SIGKILL')
  await ready
  t.strictSame(await openReceipts(t).receipts.get(one.id), one)
})

t.test('while the database is away, memory is bounded, and to ask is a 503', async (t) => {
  const nowhere = `postgres://nobody@127.0.0.1:${await freePort()}/none`
  const { receipts, log, close } = openReceipts(t, { url: nowhere, maxInMemory: 2 })
  const [first, second, third] = [receipt(), receipt(), receipt()]
  for (const one of [first, second, third]) await receipts.put(one)
  t.strictSame(await receipts.get(third.id), third)
  t.strictSame(await receipts.get(second.id), second)
  await t.rejects(receipts.get(first.id), { statusCode: 503, code: 'DATABASE_UNAVAILABLE' })
  t.match(await log.find(/too many wait/), { export: { id: first.id } })

  await close()
  t.match(await log.find(/receipts were lost/), { exports: [{ id: second.id }, { id: third.id }] })
})

t.test('what is pending when the server closes is written once the database takes it', async (t) => {
  const { receipts, close } = openReceipts(t)
  const database = await connect(t, url)
  await database.query('BEGIN; LOCK TABLE receipts')
  const one = receipt()
  const put = receipts.put(one)
  const closed = close()
  await database.query('COMMIT')
  await Promise.all([put, closed])
  t.strictSame(await openReceipts(t).receipts.get(one.id), one)
})

t.test('reports that hold every connection keep no receipt waiting', async (t) => {
  const { app } = await serveApp(t, url)
  const { pool } = app.pg
  const clients = await Promise.all(Array.from({ length: 10 }, () => pool.connect()))
  const { receipts } = openReceipts(t)
  const one = receipt()
  await receipts.put(one)
  const { statusCode, body } = await app.inject(`/exports/${one.id}`)
  t.equal(statusCode, 200)
  t.strictSame(JSON.parse(body), one)
  for (const client of clients) client.release()
})

t.test('a database of an earlier version gets its table', async (t) => {
  const database = await connect(t, url)
  await database.query('DROP TABLE receipts')
  await prepareDatabase(url)
  await prepareDatabase(url)
  const one = receipt()
  await openReceipts(t).receipts.put(one)
  t.strictSame(await openReceipts(t).receipts.get(one.id), one)
})
