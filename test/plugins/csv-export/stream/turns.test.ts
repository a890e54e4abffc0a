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

t.test('rows that take long to make do not keep everything else waiting', async (t) => {
  let sinceTurn = 0
  let most = 0
  const onTurn = () => {
    most = Math.max(most, sinceTurn)
    sinceTurn = 0
    check = setImmediate(onTurn)
  }
  let check = setImmediate(onTurn)
  function* rows() {
    for (let count = 0; count < 100; count++) {
      const end = performance.now() + 10
      while (performance.now() < end);
      sinceTurn++
      yield { a: count }
    }
  }
  for await (const _chunk of toCsv(rows()));
  clearImmediate(check)
  t.ok(most <= 10, `${most} rows of 10 ms in one turn`)
})

t.test('a source that never waits lets timers run, with rows and without', async (t) => {
  const sources: Record<string, () => AsyncIterable<any[]>> = {
    batches: emptyBatches,
    // A limit of about 64 KB would end the chunk, and the turn with it.
    rows: async function* () {
      for (let count = 0; count < empties; count++) yield [[]]
    }
  }
  for (const [name, source] of Object.entries(sources)) {
    let turns = 0
    const timer = setInterval(() => turns++, 0)
    for await (const _chunk of toCsv(source(), { batches: true, columns: ['a'], chunkSize: 1e9 }));
    clearInterval(timer)
    t.ok(turns > 3, `${name}: ${turns} turns`)
  }
})
