import t from 'tap'
import { prepareDatabase } from '../../database/prepare.ts'
import { connect, copyToCsv, startDatabase } from '../database.ts'

const url = await startDatabase(t, { rows: 2_000 })
const database = await connect(t, url)

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
