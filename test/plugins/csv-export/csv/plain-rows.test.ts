import t from 'tap'
import { numberText } from '../../../../plugins/csv-export/csv/plain-values.ts'
import { bothWays, encode } from './encoding.ts'
import { checkDates, checkPlainRows } from './plain-files.ts'

// Many more are in test/long.

t.test('plain rows are written as csv-stringify writes them', async (t) => {
  checkPlainRows(t, 4_000)
})

t.test('each cell of plain rows is asked for once', async (t) => {
  for (const encoder of bothWays) {
    let count = 0
    const row = () => ({
      get id() {
        return ++count
      },
      name: 'x'
    })
    t.equal(encode([row(), row(), row()], { encoder, header: false }), '1,x\n2,x\n3,x\n')
  }
})

t.test(
  'a first cell that readers would take for something else is quoted in rows of all kinds',
  async (t) => {
    const bare = (name: string) => Object.assign(Object.create(null), { name, id: 1 })
    const rows = ['a', ' ', '\ufeffb', 'c'].map(bare)
    for (const encoder of bothWays)
      t.equal(encode(rows, { encoder, header: false }), 'a,1\n" ",1\n"\ufeffb",1\nc,1\n')
  }
)

t.test('a number has the text that JavaScript gives it', async (t) => {
  const edges = [
    ...[0, -0, 0.0005, 0.001, 1e3, 1e6, 999_999_999, 999_999_999.999, 1e9, 2 ** 31, 2 ** 53, 1e21, 1e-7],
    ...[Number.NaN, Number.POSITIVE_INFINITY, Number.MIN_VALUE, Number.MAX_VALUE]
  ]
  for (const value of edges) {
    t.equal(numberText(value), String(value))
    t.equal(numberText(-value), String(-value))
  }
  const differing = []
  for (let count = 0; count < 200_000; count++) {
    for (const value of [
      count,
      count / 10,
      count / 100,
      count / 1000,
      count / 10_000,
      count * 1.01,
      count * 4999
    ]) {
      if (numberText(value) !== String(value)) differing.push(value)
    }
  }
  t.same(differing, [])
})

t.test('a date has the text that toISOString gives it', async (t) => {
  checkDates(t, 11)
})
