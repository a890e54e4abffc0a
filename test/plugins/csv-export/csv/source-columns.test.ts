import t from 'tap'
import { type SourceInput, toCsv } from '../../../../plugins/csv-export/index.ts'
import { collect } from '../../pg/pools.ts'

async function file(rows: SourceInput<any>, options = {}): Promise<string> {
  return Buffer.concat(await collect(toCsv(rows, options))).toString()
}

const named = (rows: unknown[], columns: unknown): any => Object.assign(rows, { columns })

t.test('the names that rows bring along are the columns', async (t) => {
  const rows = [
    { b: 1, a: 2 },
    { a: 3, c: 4 }
  ]
  t.equal(await file(named(rows, ['a', 'b'])), 'a,b\n2,1\n3,\n')
  t.equal(await file(() => named([], ['a', 'b'])), 'a,b\n')
  t.equal(await file(async () => named([[1, 2], [3]], ['a', 'b'])), 'a,b\n1,2\n3,\n')
  t.equal(await file(named([[{ a: 1 }]], ['b', 'a']), { batches: true }), 'b,a\n,1\n')
  t.equal(await file(named(rows, ['a']), { columns: ['b'] }), 'b\n1\n""\n', 'those of the call win')
  await t.rejects(file(named([[1, 2]], ['a'])), { code: 'CSV_EXPORT_INVALID_ROW' })
})

t.test('what is no list of names is not taken for one', async (t) => {
  for (const columns of [undefined, [], 'a,b', ['a', 1], [{ name: 'a' }], () => ['a'], new Set(['a'])]) {
    t.equal(await file(named([{ b: 1 }], columns)), 'b\n1\n')
  }
})

t.test('names are asked for again until the first row, and not after it', async (t) => {
  let asked = 0
  const rows = {
    columns: undefined as string[] | undefined,
    *[Symbol.iterator]() {
      asked++
      rows.columns = ['b', 'a']
      yield { a: 1, b: 2 }
      rows.columns = ['c']
      yield { a: 3, b: 4 }
    }
  }
  t.equal(await file(rows), 'b,a\n2,1\n4,3\n')
  t.equal(asked, 1)
})

t.test('a getter of theirs that throws is a failure of the source', async (t) => {
  const rows = {
    get columns(): string[] {
      throw new Error('no names')
    },
    *[Symbol.iterator]() {
      yield { a: 1 }
    }
  }
  await t.rejects(file(rows), /no names/)
})
