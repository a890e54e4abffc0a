import t from 'tap'
import { toCsv } from '../../../../plugins/csv-export/index.ts'

type Row = { a: number }

const empties = 100_000

async function* emptyBatches(): AsyncGenerator<Row[]> {
  for (let count = 0; count < empties; count++) yield []
  yield [{ a: 1 }]
}

t.test('empty batches are skipped, however many there are', async (t) => {
  const batches: Row[][] = [...Array.from({ length: empties }, () => []), [{ a: 1 }], [], [{ a: 2 }]]
  for (const rows of [batches, emptyBatches()]) {
    const chunks = []
    for await (const chunk of toCsv(rows, { batches: true, columns: ['a'] })) chunks.push(chunk)
    t.match(Buffer.concat(chunks).toString(), /^a\n1\n(2\n)?$/)
  }
})

t.test('empty batches that never wait let timers run', async (t) => {
  let turns = 0
  const timer = setInterval(() => turns++, 0)
  for await (const _chunk of toCsv(emptyBatches(), { batches: true, columns: ['a'] }));
  clearInterval(timer)
  t.ok(turns > 3, `${turns} turns`)
})
