import t from 'tap'
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

const kinds = { asynchronous, synchronous }

t.test('a generator of an earlier export is refused, as it would give an empty file', async (t) => {
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

t.test('an export keeps all rows of its generator, whoever else is given it', async (t) => {
  const { opened: asked, open: ask } = gate()
  const { opened: goesOn, open: goOn } = gate()
  async function* waiting(): AsyncGenerator<Row> {
    yield { id: 0 }
    ask()
    await goesOn
    yield { id: 1 }
    yield { id: 2 }
  }
  const rows = waiting()
  const { url } = await serve(t, (app) => {
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
})
