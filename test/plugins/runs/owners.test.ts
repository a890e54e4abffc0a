import { randomInt } from 'node:crypto'
import type { FastifyError, FastifyRequest } from 'fastify'
import t from 'tap'
import {
  type Answer,
  ask,
  finishedRun,
  heldReport,
  numbers,
  post,
  serveRuns,
  startEmptyPostgres
} from './runs.ts'

const connectionString = await startEmptyPostgres(t)

const unknown = '00000000-0000-4000-8000-000000000000'
const codeOf = ({ status, body }: Answer) => [status, body?.code]

t.test('to others a run does not exist', async (t) => {
  const { report, asked, release } = heldReport()
  const { url } = await serveRuns(t, { connectionString, reports: [report, numbers] })
  const ended = await finishedRun(url, 'numbers', { user: 'ann', headers: { 'idempotency-key': 'k' } })
  const open = (await post(url, 'held', { user: 'ann' })).body
  await asked
  const fileId = ended.result?.href.split('/').at(-1)
  for (const id of [ended.id, open.id, ended.id.toUpperCase()]) {
    for (const [method, path] of [
      ['GET', ''],
      ['POST', '/cancel'],
      ['DELETE', ''],
      ['GET', '/result'],
      ['GET', `/files/${fileId}`],
      ['HEAD', `/files/${fileId}`]
    ] as const) {
      const theirs = await ask(`${url}/runs/${id}${path}`, {
        method,
        user: 'bob',
        headers: { prefer: 'wait=60' }
      })
      const nobodys = await ask(`${url}/runs/${unknown}${path}`, { method, user: 'bob' })
      t.equal(theirs.status, 404, `${method} ${path}`)
      t.same(
        theirs.body,
        method === 'HEAD' ? '' : { ...nobodys.body, message: nobodys.body.message.replace(unknown, id) }
      )
    }
  }
  t.same((await ask(`${url}/runs`, { user: 'bob' })).body, [])
  const own = await post(url, 'numbers', { user: 'bob', headers: { 'idempotency-key': 'k' } })
  t.not(own.body.id, ended.id)
  t.match((await ask(`${url}/runs/${ended.id}`, { user: 'ann' })).body, { state: 'succeeded' })
  release()
})

t.test('what is no owner is refused, not shared', async (t) => {
  const owners: Record<string, unknown> = {
    promise: Promise.resolve('ann'),
    empty: '',
    number: 7,
    nul: 'ann\0',
    half: 'ann\ud800',
    long: 'a'.repeat(501)
  }
  const wrong = await serveRuns(t, {
    connectionString,
    owner: ({ headers }) => owners[String(headers.user)] as never,
    concurrency: 0
  })
  for (const user of [...Object.keys(owners), 'nobody']) {
    for (const answer of [
      await post(wrong.url, 'numbers', { user }),
      await ask(`${wrong.url}/runs`, { user })
    ]) {
      t.match(answer, { status: 500, body: { code: 'CSV_EXPORT_INVALID_OPTION', message: /option "owner"/ } })
    }
  }
  const unauthorized = Object.assign(new Error('who are you?'), { statusCode: 401 })
  const owner = ({ headers }: FastifyRequest) => {
    if (headers.user === 'late') return Promise.reject(unauthorized) as never
    if (headers.user === undefined) throw unauthorized
    return String(headers.user)
  }
  for (const thrown of ['text', { statusCode: 403 }, null, 5, Object.freeze(new Error('frozen'))]) {
    const owner = () => {
      throw thrown
    }
    const { url } = await serveRuns(t, { connectionString, owner, concurrency: 0 })
    const answer = await ask(`${url}/runs`)
    t.equal(answer.status, 500)
    t.match(answer.body.message, thrown instanceof Error ? thrown.message : String(thrown))
  }
  const handled = await serveRuns(t, {
    connectionString,
    concurrency: 0,
    before: (app) => {
      app.setErrorHandler((error: FastifyError, _request, reply) => void reply.code(418).send(error.message))
      app.addHook('onRequest', async ({ headers }) => {
        if (headers.user === undefined) throw 'nobody'
      })
    }
  })
  t.match(await ask(`${handled.url}/runs`), { status: 418, body: 'the source failed: nobody' })
  t.match(await ask(`${handled.url}/runs/${unknown}`, { user: 'ann' }), {
    status: 418,
    body: `there is no run ${unknown}`
  })
  const guarded = await serveRuns(t, { connectionString, owner, concurrency: 0 })
  const { id } = (await post(guarded.url, 'numbers', { user: 'ann' })).body
  for (const path of [id, unknown]) {
    const answer = await ask(`${guarded.url}/runs/${path}`)
    t.match(answer, { status: 401, body: { message: 'who are you?' } }, 'be there such a run or not')
    t.equal((await ask(`${guarded.url}/runs/${path}`, { user: 'late' })).status, 500)
  }
  const { url } = await serveRuns(t, { connectionString, owner: 'public' })
  const run = await finishedRun(url, 'numbers', { user: 'ann' })
  t.equal((await ask(`${url}/runs/${run.id}`, { user: 'bob' })).status, 200)
})

t.test('the longest owner and the longest key fit into an index together', async (t) => {
  // As few bytes as the database can make of them.
  const name = String.fromCharCode(...Array.from({ length: 500 }, () => randomInt(0x4e00, 0x9fff)))
  const key = String.fromCharCode(...Array.from({ length: 255 }, () => randomInt(0xc0, 0xff)))
  const { url } = await serveRuns(t, { connectionString, owner: () => name, concurrency: 0 })
  t.equal((await post(url, 'numbers', { headers: { 'idempotency-key': key } })).status, 202)
})

t.test('an owner has so many open runs, so many bytes are kept', async (t) => {
  const first = await serveRuns(t, { connectionString, concurrency: 0, maxOpenPerOwner: 2 })
  const { id } = (await post(first.url, 'numbers', { json: { count: 1 } })).body
  await post(first.url, 'numbers', { json: { count: 2 } })
  const refused = await post(first.url, 'numbers', { json: { count: 3 } })
  t.match(codeOf(refused), [429, 'CSV_EXPORT_TOO_MANY_RUNS'])
  t.equal(refused.headers.get('location'), null)
  t.equal((await post(first.url, 'numbers', { json: { count: 2 } })).status, 202, 'an open one is none more')
  t.equal((await post(first.url, 'numbers', { json: { count: 3 }, user: 'bob' })).status, 202)
  await ask(`${first.url}/runs/${id}/cancel`, { method: 'POST' })
  t.equal((await post(first.url, 'numbers', { json: { count: 3 } })).status, 202)

  const { url } = await serveRuns(t, { connectionString, maxBytesPerOwner: 100, maxBytesKept: 200 })
  const json = { count: 30 }
  const kept = await finishedRun(url, 'numbers', { json })
  t.match(codeOf(await post(url, 'numbers')), [429, 'CSV_EXPORT_TOO_MANY_BYTES_OF_OWNER'])
  t.equal((await finishedRun(url, 'numbers', { user: 'bob', json })).state, 'succeeded')
  t.match(codeOf(await post(url, 'numbers', { user: 'eve' })), [507, 'CSV_EXPORT_TOO_MANY_BYTES'])
  await ask(`${url}/runs/${kept.id}`, { method: 'DELETE' })
  t.equal((await finishedRun(url, 'numbers', { user: 'eve' })).state, 'succeeded')

  const unlimited = { maxOpenPerOwner: 0, maxBytesPerOwner: 0, maxBytesKept: 0 }
  const open = await serveRuns(t, { connectionString, ...unlimited })
  t.equal((await finishedRun(open.url, 'numbers', { json })).state, 'succeeded')
})
