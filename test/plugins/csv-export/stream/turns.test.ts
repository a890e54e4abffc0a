import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { ownTurn } from '../../../../plugins/csv-export/stream/turns.ts'

t.test('no two exports have the same turn of the event loop', async (t) => {
  let turns = 0
  const exports = Array.from({ length: 5 }, async () => {
    await ownTurn()
    return turns
  })
  for (; turns < 10; turns++) await turn()
  t.equal(new Set(await Promise.all(exports)).size, exports.length)
})
