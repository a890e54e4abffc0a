import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Stringifier } from 'csv-stringify'
import { stringify } from 'csv-stringify/sync'
import t from 'tap'
import type { Insides } from '../../../../plugins/csv-export/csv/record-stringifier.ts'
import { RecordStringifier } from '../../../../plugins/csv-export/csv/record-stringifier.ts'

t.test('csv-stringify has the insides that are used', async (t) => {
  const insides = new Stringifier({ quoted: true }) as unknown as Insides
  t.same(insides.api.stringify(['a"', 1, null]), [undefined, '"a""","1",'])
  const [error] = insides.api.stringify([() => 1])
  t.type(error, Error)
  insides.options.quoted_empty = true
  t.same(insides.api.stringify([null]), [undefined, '""'], 'its options are read for each record')
  t.equal(insides.info.records, 0)
})

t.test('a cast sees the number of the record', async (t) => {
  const stringifier = new RecordStringifier({ header: true })
  const seen: unknown[] = []
  stringifier.casts = {
    string: (value, { header, records, index }) => {
      seen.push([header, records, index])
      return value
    }
  }
  stringifier.stringify(['h'], true)
  for (const cells of [
    ['a', 'b'],
    ['c', 'd']
  ])
    stringifier.stringify(cells)
  t.same(seen, [
    [true, 0, 0],
    [false, 0, 0],
    [false, 0, 1],
    [false, 1, 0],
    [false, 1, 1]
  ])
})

t.test('casts go with their file', async (t) => {
  setFlagsFromString('--expose-gc')
  const casts: WeakRef<object>[] = []
  const write = (string: (value: string) => string) => {
    const stringifier = new RecordStringifier({ delimiter: ';' })
    stringifier.casts = { string }
    casts.push(new WeakRef(stringifier.casts))
    return stringifier.stringify(['a', 'b'])
  }
  t.equal(
    write((value) => value.toUpperCase()),
    'A;B'
  )
  t.throws(() =>
    write(() => {
      throw new Error('no text')
    })
  )
  await turn()
  runInNewContext('gc')()
  t.strictSame(
    casts.map((reference) => reference.deref()),
    [undefined, undefined]
  )
})

t.test('its text is that of the whole library', async (t) => {
  const rows = [
    ['a,b', '', null, 5, true, { a: 1 }],
    ['"', '\n', undefined, 5n, false, new Date(5)]
  ]
  for (const options of [{}, { quoted: true }, { quoted_string: true }, { delimiter: '::', quote: "'" }]) {
    const stringifier = new RecordStringifier({ ...options, quote_record_delimiter: true })
    const text = rows.map((row) => `${stringifier.stringify(row)}\n`).join('')
    t.equal(text, stringify(rows, { ...options, quote_record_delimiter: true }))
  }
})
