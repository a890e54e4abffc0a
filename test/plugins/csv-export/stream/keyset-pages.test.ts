import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import {
  type KeysetPage,
  type KeysetPagesOptions,
  keysetPages,
  toCsv
} from '../../../../plugins/csv-export/index.ts'
import { curl, gate, serve } from '../../../helper.ts'

type Row = Record<string, unknown>

const numbered = (count: number): Row[] => Array.from({ length: count }, (_, n) => ({ id: n + 1 }))

/** Pages of rows by their numeric `id`, with what each was asked for. */
function pagesOf(rows: Row[]) {
  const asked: KeysetPage[] = []
  const page = async (request: KeysetPage): Promise<Row[]> => {
    asked.push(request)
    const { after = Number.NEGATIVE_INFINITY, upTo, limit } = request
    return rows.filter(({ id }) => (id as number) > after && (id as number) <= upTo).slice(0, limit)
  }
  return { page, asked, bound: async () => rows.at(-1)?.id }
}

async function collect<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const row of rows) all.push(row)
  return all
}

function iterate<T>(rows: AsyncIterable<T>) {
  return rows[Symbol.asyncIterator]() as unknown as {
    next(): IteratorResult<T> | Promise<IteratorResult<T>>
    return(): Promise<IteratorResult<T>>
  }
}

/** Rows of pages that are given one after the other, whatever is asked for. */
function given(pages: unknown[], options: Partial<KeysetPagesOptions> = {}): AsyncIterable<Row> {
  let index = 0
  const page = async () => (pages[index++] ?? []) as Row[]
  return keysetPages(page, { key: 'id', bound: () => 1_000, ...options })
}

for (const [count, limit, queries] of [
  [0, 3, 0],
  [1, 3, 1],
  [2, 3, 1],
  [3, 3, 1],
  [4, 3, 2],
  [9, 3, 3],
  [10, 1, 10]
] as const) {
  t.test(`${count} rows in pages of ${limit} take ${queries} queries`, async (t) => {
    const { page, asked, bound } = pagesOf(numbered(count))
    t.strictSame(await collect(keysetPages(page, { key: 'id', bound, limit })), numbered(count))
    t.equal(asked.length, queries, 'the row of the bound is the last one')
    for (const [index, { after, upTo }] of asked.entries()) {
      t.equal(after, index === 0 ? undefined : index * limit)
      t.equal(upTo, count)
    }
  })
}

t.test('the bound is asked for once, when the first row is', async (t) => {
  const rows = numbered(5)
  const { page, asked } = pagesOf(rows)
  let times = 0
  const all = keysetPages(page, { key: 'id', bound: () => ++times && 5, limit: 2 })
  t.equal(times, 0)
  rows.push({ id: 6 })
  t.equal((await collect(all)).length, 5)
  t.equal(times, 1)
  t.equal(asked.length, 3)
})

t.test('a page that is not full is no end, one without rows is', async (t) => {
  const pages = [[{ id: 1 }], [{ id: 2 }, { id: 3 }], [], [{ id: 4 }]]
  t.strictSame(await collect(given(pages, { limit: 10 })), [{ id: 1 }, { id: 2 }, { id: 3 }])
})

t.test('a limit is 1000 by default', async (t) => {
  const { page, asked, bound } = pagesOf(numbered(1_001))
  t.equal((await collect(keysetPages(page, { key: 'id', bound }))).length, 1_001)
  t.strictSame(
    asked.map(({ limit }) => limit),
    [1_000, 1_000]
  )
})

t.test('a compound key is an array of its parts', async (t) => {
  const rows = [
    { day: 'a', id: 9n },
    { day: 'b', id: 1n },
    { day: 'b', id: 2n },
    { day: 'a', id: 10n }
  ]
  const asked: unknown[] = []
  const page = ({ after, upTo }: KeysetPage) => {
    asked.push([after, upTo])
    return rows.slice(2 * (asked.length - 1), 2 * asked.length)
  }
  const all = keysetPages(page, { key: ['day', 'id'], bound: () => ['a', 10n], limit: 2 })
  t.strictSame(await collect(all), rows, 'the order of texts is the database’s')
  t.strictSame(asked, [
    [undefined, ['a', 10n]],
    [
      ['b', 1n],
      ['a', 10n]
    ]
  ])
})

t.test('descending keys, and numbers beside bigints', async (t) => {
  const down = [[{ id: 3 }, { id: 2n }], [{ id: 1 }]]
  t.equal((await collect(given(down, { bound: () => 1n }))).length, 3)
  const mixed = [
    [
      { flag: true, id: 5 },
      { flag: true, id: 4.5 }
    ],
    [{ flag: false, id: 9 }]
  ]
  t.equal((await collect(given(mixed, { key: ['flag', 'id'], bound: () => [false, 1] }))).length, 3)
})

const wrong: Record<string, { pages: unknown[]; options?: Partial<KeysetPagesOptions>; message: RegExp }> = {
  'no array': { pages: [{ rows: [] }], message: /^page 1: it is a value of type object, and/ },
  'a row that is none': { pages: [[{ id: 1 }], [null]], message: /^page 2, row 1: it is null/ },
  'a row without its key': {
    pages: [[{ id: 1 }, { ID: 2 }]],
    message: /^page 1, row 2: "id" is undefined: each/
  },
  'a key that is NULL': { pages: [[{ id: null }]], message: /^page 1, row 1: "id" is null: each/ },
  'a Date': { pages: [[{ id: new Date() }]], message: /give it as text$/ },
  'a number that may have lost digits': { pages: [[{ id: 2 ** 53 }]], message: /give it as text$/ },
  'no number': { pages: [[{ id: Number.NaN }]], message: /give it as text$/ },
  'more rows than the limit': {
    pages: [numbered(3)],
    options: { limit: 2 },
    message: /^page 1: it has 3 rows, and "limit" is 2$/
  },
  'two rows of one key': {
    pages: [[{ id: 'a' }, { id: 'a' }]],
    message: /^page 1, row 2: its key has come/
  },
  'two rows of one compound key': {
    pages: [
      [
        { id: 'a', n: 1 },
        { id: 'a', n: 1n }
      ]
    ],
    options: { key: ['id', 'n'], bound: () => ['z', 1] },
    message: /^page 1, row 2: its key has come/
  },
  'a page that comes again': {
    pages: [
      [{ id: 'a' }, { id: 'b' }],
      [{ id: 'a' }, { id: 'b' }]
    ],
    options: { key: 'id', bound: () => 'z' },
    message: /^page 2, row 2: its key has come/
  },
  'a page that begins with the last row': {
    pages: [[{ id: 'a' }, { id: 'b' }], [{ id: 'b' }]],
    message: /^page 2, row 1: its key has come/
  },
  'numbers without order': {
    pages: [[{ id: 1 }, { id: 3 }, { id: 2 }]],
    message: /^page 1, row 3: it belongs before/
  },
  'numbers without order in a part': {
    pages: [
      [
        { id: 'a', n: 1 },
        { id: 'a', n: 3 },
        { id: 'b', n: 2 },
        { id: 'b', n: 1 }
      ]
    ],
    options: { key: ['id', 'n'], bound: () => ['z', 1] },
    message: /^page 1, row 4: it belongs before/
  },
  'numbers that descend to a bound above them': {
    pages: [[{ id: 3 }, { id: 2 }]],
    message: /^page 1, row 2: it belongs before/
  },
  'a number behind the bound': {
    pages: [[{ id: 999 }, { id: 1_001 }]],
    message: /^page 1, row 2: it comes after/
  },
  'a row behind that of the bound': {
    pages: [[{ id: 'a' }, { id: 'b' }]],
    options: { bound: () => 'a' },
    message: /^page 1, row 2: it comes after/
  },
  'a bound that may have lost digits': {
    pages: [],
    options: { bound: () => new Date() },
    message: /^bound\(\): "id" is a value of type object: .* text$/
  },
  'a bound that is no list': {
    pages: [],
    options: { key: ['id'] },
    message: /^bound\(\): it gave 1000, and "key" is a list/
  },
  'a bound without a part': {
    pages: [],
    options: { key: ['id', 'n'], bound: () => [1] },
    message: /^bound\(\): "n" is undefined/
  }
}

for (const [name, { pages, options, message }] of Object.entries(wrong)) {
  t.test(`${name}: refused before a row of that page is given`, async (t) => {
    const rows: Row[] = []
    const failing = (async () => {
      for await (const row of given(pages, options)) rows.push(row)
    })()
    await t.rejects(failing, { code: 'CSV_EXPORT_INVALID_PAGE', message })
    const [, page = '1'] = /page (\d)/.exec(String(message)) ?? []
    t.equal(rows.length, pages.slice(0, Number(page) - 1).flat().length)
  })
}

t.test('options that are none are refused at the call', async (t) => {
  const { page, bound } = pagesOf([])
  const right = { key: 'id', bound, limit: 1 }
  const limits = [0, -1, 1.5, '1', 2 ** 31].map((limit) => ({ limit }))
  for (const wrong of [{ key: [] }, { key: 1 }, { key: ['id', 1] }, { bound: 5 }, ...limits]) {
    t.throws(() => keysetPages(page, { ...right, ...wrong } as never), {
      code: 'CSV_EXPORT_INVALID_OPTION',
      message: new RegExp(`^option "${Object.keys(wrong)[0]}"`)
    })
  }
  t.throws(() => keysetPages([] as never, right), {
    code: 'CSV_EXPORT_INVALID_OPTION',
    message: /"page"/
  })
})

t.test('what page() or bound() throws comes as it is, and is the end', async (t) => {
  const lost = new Error('the database is away')
  for (const options of [{ bound: () => Promise.reject(lost) }, { bound: () => fail(lost) }]) {
    const rows = iterate(given([], options))
    await t.rejects(Promise.resolve(rows.next()), lost)
    t.strictSame(await rows.next(), { done: true, value: undefined })
  }
  await t.rejects(collect(keysetPages(() => fail(lost), { key: 'id', bound: () => 1 })), lost)
})

function fail(error: Error): never {
  throw error
}

t.test('a row that has been fetched is given at once, one that has not as a promise', async (t) => {
  const { page, bound } = pagesOf(numbered(3))
  const rows = iterate(keysetPages(page, { key: 'id', bound, limit: 2 }))
  const first = rows.next()
  t.type(first, Promise)
  t.strictSame(await first, { done: false, value: { id: 1 } })
  t.strictSame(rows.next(), { done: false, value: { id: 2 } })
  const [third, end] = [rows.next(), rows.next()]
  t.strictSame(await third, { done: false, value: { id: 3 } })
  t.strictSame(await end, { done: true, value: undefined })
})

for (const way of ['signal', 'return'] as const) {
  for (const waitsFor of ['bound', 'page'] as const) {
    t.test(`${way} ends it at once while ${waitsFor}() is waited for`, async (t) => {
      const left = new Error('the client left')
      const controller = new AbortController()
      const { opened, open } = gate<never>()
      let signalOfPage: AbortSignal | undefined
      let pages = 0
      const page = ({ signal }: KeysetPage<number>) => {
        signalOfPage = signal
        pages++
        return opened
      }
      const bound = () => (waitsFor === 'bound' ? opened : 1)
      const rows = iterate(keysetPages(page, { key: 'id', bound, signal: controller.signal }))
      const pending = Promise.resolve(rows.next())
      pending.catch(() => {})
      await turn()
      if (way === 'signal') {
        controller.abort(left)
        await t.rejects(pending, left)
      } else {
        t.strictSame(await rows.return(), { done: true, value: undefined })
        t.strictSame(await pending, { done: true, value: undefined })
      }
      if (waitsFor === 'page') {
        t.match(signalOfPage, { aborted: true, reason: way === 'signal' ? left : { name: 'AbortError' } })
      }
      open(undefined as never)
      await turn()
      t.equal(pages, waitsFor === 'page' ? 1 : 0, 'no page is asked for that nobody wants')
      t.strictSame(await rows.next(), { done: true, value: undefined })
    })
  }
}

t.test('a signal that has fired asks for nothing', async (t) => {
  const left = new Error('the client left')
  const { page, asked, bound } = pagesOf(numbered(3))
  const rows = keysetPages(page, { key: 'id', bound, signal: AbortSignal.abort(left) })
  await t.rejects(collect(rows), left)
  t.equal(asked.length, 0)
})

t.test('replies and toCsv() take it, and a page that is wrong breaks the download', async (t) => {
  const { page, bound } = pagesOf(numbered(5))
  const csv = Buffer.concat(await collect(toCsv(keysetPages(page, { key: 'id', bound, limit: 2 }))))
  t.equal(csv.toString(), 'id\n1\n2\n3\n4\n5\n')
  const { url } = await serve(t, (app) => {
    app.get('/whole.csv', (_request, reply) =>
      reply.csv(({ signal }) => keysetPages(page, { key: 'id', bound, limit: 2, signal }))
    )
    app.get('/wrong.csv', (_request, reply) => reply.csv(given([[{ id: 'a' }, { id: 'a' }]])))
  })
  t.strictSame(await curl(`${url}/whole.csv`), { code: 0, body: csv.toString(), stderr: '' })
  t.match(JSON.parse((await curl(`${url}/wrong.csv`)).body), {
    code: 'CSV_EXPORT_INVALID_PAGE',
    statusCode: 500
  })
})

t.test('keys and rows have their types', async () => {
  interface Order {
    id: number
    name: string
  }
  const orders: Order[] = []
  const page = async ({ after, upTo }: KeysetPage<number>): Promise<Order[]> => {
    const compared: number | undefined = after
    return orders.filter(({ id }) => id > (compared ?? 0) && id <= upTo)
  }
  const bound = async (): Promise<number | null> => null
  const names: string[] = []
  for await (const { name } of keysetPages(async (request) => page(request), {
    key: ['name', 'id'],
    bound
  })) {
    names.push(name)
  }
  // @ts-expect-error no column of the rows
  keysetPages(page, { key: 'ID', bound })
  // @ts-expect-error another bound than what the page takes
  keysetPages(page, { key: 'id', bound: () => '1' })
})
