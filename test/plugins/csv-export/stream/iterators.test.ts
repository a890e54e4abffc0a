import { Readable } from 'node:stream'
import t from 'tap'
import { toCsv } from '../../../../plugins/csv-export/index.ts'
import { gate, serve } from '../../../helper.ts'

type Row = { id: number }

const csv = 'id\n0\n1\n2\n'
const refusal = { code: 'CSV_EXPORT_SOURCE_USED' }

async function* asynchronous(): AsyncGenerator<Row> {
  for (let id = 0; id < 3; id++) yield { id }
}

function* synchronous(): Generator<Row> {
  for (let id = 0; id < 3; id++) yield { id }
}

function ownIterator(): AsyncIterable<Row> & AsyncIterator<Row> {
  let id = 0
  return {
    next: async () => (id < 3 ? { done: false, value: { id: id++ } } : { done: true, value: undefined }),
    [Symbol.asyncIterator]() {
      return this
    }
  }
}

const kinds: Record<string, () => Iterable<Row> | AsyncIterable<Row>> = {
  'an asynchronous generator': asynchronous,
  'a synchronous generator': synchronous,
  'the iterator of an array': () => [...synchronous()].values(),
  'the iterator of a Map': () => new Map([...synchronous()].map((row) => [row.id, row])).values(),
  'the iterator of a stream': () => Readable.from(synchronous()).iterator(),
  'the iterator of a web stream': () => ReadableStream.from<Row>(synchronous()).values(),
  'an iterator of its own': ownIterator,
  'what gives a generator': () => {
    const rows = synchronous()
    return { [Symbol.iterator]: () => rows }
  }
}

t.test('an iterator of an earlier export is refused, as it would give an empty file', async (t) => {
  for (const [kind, open] of Object.entries(kinds)) {
    const [rows, opened] = [open(), open()]
    const { url } = await serve(t, (app) => {
      app.get('/', (_request, reply) => reply.csv(rows, { columns: ['id'] }))
      app.get('/function', (_request, reply) => reply.csv(() => opened, { columns: ['id'] }))
    })
    for (const path of ['/', '/function']) {
      t.equal(await (await fetch(url + path)).text(), csv, `${kind}, ${path}`)
      const second = await fetch(url + path)
      t.match({ status: second.status, ...((await second.json()) as object) }, { status: 500, ...refusal })
    }
  }
})

t.test('what toCsv() gives is refused by a second export, too', async (t) => {
  const chunks = toCsv([...synchronous()])
  const { url } = await serve(t, (app) =>
    app.get('/', (_request, reply) => reply.csv(chunks, { encoded: true }))
  )
  t.equal(await (await fetch(url)).text(), csv)
  t.match(await (await fetch(url)).json(), refusal)
})

t.test('what gives a new iterator each time is exported as often as it is asked for', async (t) => {
  const [rows, kept] = [[...synchronous()], new Set(synchronous())]
  const { url } = await serve(t, (app) => {
    app.get('/array', (_request, reply) => reply.csv(rows))
    app.get('/set', (_request, reply) => reply.csv(kept))
  })
  for (const path of ['/array', '/array', '/set', '/set']) {
    t.equal(await (await fetch(url + path)).text(), csv, path)
  }
})

t.test('a generator that was let go of unopened is refused, too', async (t) => {
  const [headed, refused] = [asynchronous(), asynchronous()]
  const { url } = await serve(t, (app) => {
    app.get('/headed', (_request, reply) => reply.csv(headed, { columns: ['id'] }))
    app.get('/refused', (_request, reply) => {
      t.throws(() => reply.csv(refused, { delimiter: '' }), { code: 'CSV_EXPORT_INVALID_OPTION' })
      return reply.csv(refused, { columns: ['id'] })
    })
  })
  await fetch(`${url}/headed`, { method: 'HEAD' })
  for (const path of ['/headed', '/refused']) t.match(await (await fetch(url + path)).json(), refusal)
})

const shared: Record<string, (rows: AsyncGenerator<Row>) => AsyncIterable<Row>> = {
  generator: (rows) => rows,
  stream: (rows) => Readable.from(rows),
  'web stream': (rows) => ReadableStream.from(rows)
}

for (const [kind, make] of Object.entries(shared)) {
  t.test(`an export keeps all rows of its ${kind}, whoever else is given it`, async (t) => {
    const { opened: asked, open: ask } = gate()
    const { opened: goesOn, open: goOn } = gate()
    async function* waiting(): AsyncGenerator<Row> {
      yield { id: 0 }
      ask()
      await goesOn
      yield { id: 1 }
      yield { id: 2 }
    }
    const rows = make(waiting())
    const { url, log } = await serve(t, (app) => {
      app.get('/', (_request, reply) => reply.csv(rows))
      app.get('/wrong', (_request, reply) => reply.csv(rows, { delimiter: '' }))
      app.get('/function', (_request, reply) => reply.csv(() => rows))
    })
    const first = fetch(url)
    await asked
    for (const path of ['/', '/wrong', '/function']) {
      t.match(await (await fetch(url + path)).json(), refusal, path)
    }
    goOn()
    t.equal(await (await first).text(), csv)
    t.notOk(log.lines.some(({ msg }) => msg === 'the clean-up of a source failed'))
  })
}

t.test('an iterator that has failed is over, as in a loop; one whose row is wrong is not', async (t) => {
  const failing: Record<string, () => unknown> = {
    throws: () => {
      throw new Error('lost')
    },
    rejects: () => Promise.reject(new Error('lost'))
  }
  const wrong: Record<string, () => unknown> = {
    'gives a wrong row': () => ({ done: false, value: 5 }),
    'gives a wrong row later': async () => ({ done: false, value: 5 }),
    'gives no step': () => 5
  }
  for (const [name, last] of Object.entries({ ...failing, ...wrong })) {
    for (const batches of [false, true]) {
      const row = { id: 1 }
      const steps = [() => ({ done: false, value: batches ? [row] : row }), last]
      let returned = 0
      const iterator = { next: () => steps.shift()?.(), return: () => void returned++ }
      const source = { [Symbol.asyncIterator]: () => iterator } as unknown as AsyncIterable<any>
      await t.rejects(Readable.from(toCsv(source, { batches })).toArray())
      t.equal(returned, name in wrong ? 1 : 0, `${name}, batches: ${batches}`)
    }
  }
})
