import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { parse } from 'csv-parse/sync'
import fc from 'fast-check'
import t from 'tap'
import { app, clockOf, flatten, utf16, withSeparatorLine } from '../examples/recipes.ts'
import { toCsv } from '../plugins/csv-export/index.ts'
import { until } from './clients.ts'
import { gate, serve } from './helper.ts'
import { blocks, bytesOf, download, hostileText, outputOf, receiptOf } from './recipes.ts'

t.teardown(() => app.close())

async function all(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const got: Buffer[] = []
  for await (const chunk of chunks) got.push(chunk)
  return Buffer.concat(got)
}

const paths = blocks.flatMap(({ code }) => /app\.get\('([^']+)'/.exec(code)?.[1] ?? [])

t.test('the recipes give the bytes that docs/recipes.md shows', async (t) => {
  t.ok(paths.length >= 14, `${paths.length} recipes`)
  for (const path of paths) {
    const shown = bytesOf(outputOf(({ code }) => code.includes(`app.get('${path}'`)))
    t.equal((await download(path)).toString('latin1'), shown.toString('latin1'), path)
  }
})

t.test('a default hides no column that had no value', async (t) => {
  const receipt = await receiptOf('/default.csv', [{ id: 1, phone: undefined }])
  t.match(receipt, { rows: 1, columnsWithoutValue: { count: 1, names: ['phone'] } })
})

t.test('quotes for a column, or for the header, change no cell', async (t) => {
  const rows = fc.sample(fc.record({ zip: fc.option(hostileText), city: hostileText }), 300)
  const quoted = await download('/quoted-column.csv', rows)
  const quoting: boolean[] = []
  const read = parse(quoted, {
    from_line: 2,
    cast: (value, { column, quoting: isQuoted }) => {
      if (column === 0) quoting.push(isQuoted)
      return value
    }
  })
  t.same(
    read,
    rows.map(({ zip, city }) => [zip ?? '', city])
  )
  t.same(
    quoting,
    rows.map(({ zip }) => zip !== null)
  )
  const headers = ['a"b', 'c\nd', 'e,f', '=g', 'ID']
  const row = Object.fromEntries(headers.map((name) => [name, name]))
  const records = parse(await download('/quoted-header.csv', [row]))
  t.same(records, [headers, headers])
  t.equal(
    String(await download('/quoted-header.csv', [{ a: 1, '': 2n }])),
    '"a",\n1,2\n',
    'no name has no quotes'
  )
})

t.test('in a row that is an array, a cast is told the number of the cell', async (t) => {
  const cast = { string: (text: string, { column }: { column?: string | number }) => `${column}:${text}` }
  t.equal(String(await all(toCsv([['x', 1, 'y']], { header: false, cast }))), '0:x,1,2:y\n')
})

t.test('pairs may have any name', async (t) => {
  const pairs = [
    ['__proto__', 1],
    ['constructor', null],
    ['name', 'a"b']
  ]
  const file = await download('/pairs.csv', [Object.fromEntries(pairs), Object.fromEntries(new Map())])
  t.equal(String(file), 'name,2026,2025\n"a""b",,\n,,\n')
})

t.test('flattening loses nothing and makes no prototype', async (t) => {
  const at = new Date(0)
  const row = JSON.parse(
    '{ "__proto__": { "a": 1 }, "constructor": { "b": null }, "c": [{ "d": 1 }], "e": {} }'
  )
  const flat = [...flatten({ ...row, at, big: 2n })]
  t.same(flat, [
    ['__proto__.a', 1],
    ['constructor.b', null],
    ['c', [{ d: 1 }]],
    ['at', at],
    ['big', 2n]
  ])
  t.equal(
    String(await download('/flattened.csv', [Object.fromEntries(flat)])),
    '__proto__.a,constructor.b,c,at,big\n1,,"[{""d"":1}]",1970-01-01T00:00:00.000Z,2\n'
  )
})

t.test('a decimal comma is that of every number', async (t) => {
  const prices = [
    -0,
    1e21,
    0.005,
    1e-300,
    2n ** 70n,
    ...fc.sample(fc.double({ noNaN: true, min: -1e15, max: 1e15 }), 300)
  ]
  const file = await download(
    '/decimal-comma.csv',
    prices.map((price, id) => ({ id, price }))
  )
  const cells = parse(file, { delimiter: ';', from_line: 2 }).map(([, cell]) => cell as string)
  t.equal(cells.length, prices.length)
  for (const [index, cell] of cells.entries()) {
    const price = prices[index] as number | bigint
    t.match(cell, /^(?!-0,00)-?\d+,\d\d$/)
    if (typeof price === 'bigint') t.equal(cell, `${price},00`)
    else
      t.ok(
        Math.abs(Number(cell.replace(',', '.')) - price) <= 0.005 + Math.abs(price) * 1e-15,
        `${price}: ${cell}`
      )
  }
  t.equal(
    String(await download('/decimal-comma.csv', [{ id: 1, price: Number.NaN }, { id: 2 }])),
    'id;price\n1;NaN\n2;\n'
  )
})

t.test('a date of a zone is the same instant, in every hour of a change of the clock too', async (t) => {
  const zones = [
    'Europe/Berlin',
    'Europe/London',
    'America/St_Johns',
    'Australia/Lord_Howe',
    'Asia/Kathmandu',
    'UTC'
  ]
  const seconds = fc.integer({ min: 0, max: 4_102_444_800 })
  const changes = [
    '2026-03-29',
    '2026-10-25',
    '2026-03-08',
    '2026-11-01',
    '2026-04-04',
    '2026-10-03'
  ].flatMap((day) => Array.from({ length: 96 }, (_, quarter) => Date.parse(day) / 1000 + quarter * 900))
  for (const zone of zones) {
    const clock = clockOf(zone)
    for (const second of [...changes, ...fc.sample(seconds, 500)]) {
      const at = clock(new Date(second * 1000))
      const isRight =
        /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d$/.test(at) &&
        Date.parse(at.replace(' ', 'T')) === second * 1000
      if (!isRight) t.fail(`${zone}: ${second} is ${at}`)
    }
  }
  const invalid = await download('/zone.csv', [{ at: new Date(Number.NaN) }])
  t.match(JSON.parse(String(invalid)), { statusCode: 500, message: /row 1: column "at"/ })
})

t.test('what Excel is to take for text is no formula', async (t) => {
  const file = await download('/excel-text.csv', [
    { zip: '=1+1', card: '"x"' },
    { zip: 0, card: '' }
  ])
  t.equal(String(file), '\ufeffzip,card\r\n"\'\t=1+1","\t""x"""\r\n"\t0","\t"\r\n')
})

t.test('UTF-16 is right wherever the chunks are cut', async (t) => {
  const file = Buffer.from(`\ufeffid,${'Zoë 😀\ufeff漢'.repeat(3)}\r\n`)
  const cuts = fc.array(fc.nat(file.length)).map((at) => [0, ...at.sort((a, b) => a - b), file.length])
  await fc.assert(
    fc.asyncProperty(cuts, async (at) => {
      async function* chunks() {
        for (let index = 1; index < at.length; index++) yield file.subarray(at[index - 1], at[index])
      }
      const got = await all(utf16(chunks()))
      if (!got.equals(Buffer.from(file.toString(), 'utf16le'))) throw new Error('other text')
    })
  )
  const big = Array.from({ length: 5_000 }, (_, id) => ({ id, name: '😀ë'.repeat((id % 7) + 1) }))
  const options = { excel: true, chunkSize: 1_000, formulas: 'keep' } as const
  const [plain, wide] = await Promise.all([all(toCsv(big, options)), all(utf16(toCsv(big, options)))])
  t.equal(wide.toString('utf16le'), plain.toString())
})

t.test('the line of the separator is there once, and not in front of an error', async (t) => {
  const chunks = toCsv([{ a: 1 }, { a: 2 }], { chunkSize: 1 })
  t.equal(String(await all(withSeparatorLine(chunks))), 'sep=;\r\na\n1\n2\n')
  t.match(await chunks.receipt, { status: 'complete', rows: 2 })
  const failing = withSeparatorLine(
    toCsv(() => {
      throw new Error('no database')
    })
  )
  await t.rejects(failing.next(), { message: 'no database' })
})

t.test('rows behind UTF-16 end at once when the client leaves while they wait', async (t) => {
  const ended = gate()
  const { url, app } = await serve(t, (app) =>
    app.get('/', (_request, reply) => {
      const chunks = toCsv(async function* ({ signal }) {
        yield { id: 1 }
        await once(signal, 'abort')
        ended.open()
      })
      return reply.streamText(({ signal }) => {
        signal.addEventListener('abort', () => chunks.return?.())
        return utf16(chunks)
      })
    })
  )
  const request = get(url).on('error', () => {})
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  await once(response, 'data')
  request.destroy()
  await ended.opened
  await until(() => app.csvExports.running().length === 0)
  t.pass()
})
