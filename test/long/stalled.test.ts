import { once } from 'node:events'
import { connect as connectSocket } from 'node:net'
import t from 'tap'
import { buildApp } from '../../app.ts'
import type { Receipt } from '../../plugins/csv-export/index.ts'
import { listen, until } from '../clients.ts'
import { connect, makeReportBig, startDatabase, untilNoneBusy } from '../database.ts'
import { gate } from '../helper.ts'

t.test('a client that never reads is gone after stallTimeout, its cursor closed', async (t) => {
  const databaseUrl = await startDatabase(t)
  const database = await connect(t, databaseUrl)
  await makeReportBig(databaseUrl)
  const { opened: ended, open: end } = gate<Receipt>()
  const app = await buildApp({ databaseUrl, closeGrace: 0, exports: { stallTimeout: 200, onReceipt: end } })
  t.teardown(() => app.close())
  const { hostname, port } = new URL(await listen(app))

  const client = connectSocket(Number(port), hostname).pause()
  client.write('GET /reports/cargoes.csv HTTP/1.1\r\nHost: localhost\r\n\r\n')
  const { status, errorCode, rows, bytes } = await ended
  t.strictSame({ status, errorCode }, { status: 'client_stalled', errorCode: 'CSV_EXPORT_CLIENT_STALLED' })
  t.ok(rows > 0 && bytes > 0)

  const { pool } = app.pg
  await untilNoneBusy(database)
  await until(() => pool.idleCount === pool.totalCount)
  const { rows: cursors } = await pool.query("SELECT name FROM pg_cursors WHERE name LIKE 'C\\_%'")
  t.strictSame(cursors, [])
  t.equal(pool.totalCount, 1, 'the connection is the same, as no statement had to be cancelled')

  const [error] = await Promise.all([once(client, 'error').then(([error]) => error), client.resume()])
  t.equal(error.code, 'ECONNRESET', 'what it has got is no whole file')
  t.equal(await new Promise((resolve) => app.server.getConnections((_error, count) => resolve(count))), 0)
})
