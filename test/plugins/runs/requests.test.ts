import cors from '@fastify/cors'
import multipart from '@fastify/multipart'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import csvRuns, { DirectoryFiles, defineReport } from '../../../plugins/runs/index.ts'
import { validation } from '../../../validation.ts'
import { temporaryFolder } from '../../database.ts'
import { serve } from '../../helper.ts'
import {
  ask,
  curlReply,
  ended,
  finishedRun,
  MemoryFiles,
  newSchema,
  numbers,
  post,
  serveRuns,
  startEmptyPostgres
} from './runs.ts'
import { givesSameBytes } from './same-bytes.ts'

const connectionString = await startEmptyPostgres(t)
const noParameters = { type: 'object', additionalProperties: false, properties: {} }

for (const [name, files] of Object.entries({
  'in the database, as by default': async () => undefined,
  'in a folder': async (t: Test) => new DirectoryFiles({ folder: await temporaryFolder(t) })
})) {
  t.test(`a reply, a run and a script give the same bytes, under any options; files ${name}`, async (t) => {
    await givesSameBytes(t, { connectionString, files: await files(t) })
  })
}

t.test('rows know their viewer in each of them, who is asked for once', async (t) => {
  let calls = 0
  const rows = ({ viewer }: { viewer: unknown }) => [{ viewer: JSON.stringify(viewer) ?? 'none' }]
  const common = { version: 1, parameters: noParameters, rows }
  const reports = [
    defineReport({
      ...common,
      name: 'own',
      viewer({ headers }: FastifyRequest) {
        calls++
        return { sees: headers.sees, gone: undefined }
      }
    }),
    defineReport({ ...common, name: 'registered' }),
    defineReport({ ...common, name: 'nobody', viewer: () => null }),
    defineReport({ ...common, name: 'none', viewer: () => undefined }),
    defineReport({ ...common, name: 'promise', viewer: async () => 'all' }),
    defineReport({ ...common, name: 'bigint', viewer: () => 1n }),
    defineReport({
      ...common,
      name: 'text',
      viewer() {
        throw 'text'
      }
    })
  ]
  const defaults = { viewer: ({ headers }: FastifyRequest) => `registered ${headers.sees}` }
  const { url } = await serveRuns(t, { connectionString, reports, defaults })
  const headers = { sees: '7' }
  for (const [name, seen] of Object.entries({
    own: '"{""sees"":""7""}"',
    registered: '"""registered 7"""',
    nobody: 'null',
    none: 'none'
  })) {
    const expected = `viewer\n${seen}\n`
    t.equal((await ask(`${url}/reports/${name}.csv`, { headers })).body, expected, `${name}: reply`)
    const run = await finishedRun(url, name, { headers })
    t.equal((await ask(`${url}${run.result?.href}`)).body, expected, `${name}: run`)
  }
  t.equal(calls, 2, 'none of them when the file is sent')
  t.equal((await ask(`${url}/reports/promise.csv`)).body.code, 'CSV_EXPORT_INVALID_OPTION')
  t.match((await post(url, 'bigint')).body, {
    message: /"viewer" must be a function that returns JSON, got 1n/
  })
  t.match(await post(url, 'text'), { status: 500, body: { message: 'the source failed: text' } })
  const refused = await post(url, 'promise')
  t.match(refused, {
    status: 500,
    body: { code: 'CSV_EXPORT_INVALID_OPTION', message: /"viewer".*no promise/ }
  })

  const [one, other] = [
    await post(url, 'own', { headers }),
    await post(url, 'own', { headers: { sees: '8' } })
  ]
  t.not(one.body.id, other.body.id, 'who sees something else has a run of their own')
})

const nested = defineReport({
  name: 'nested',
  version: 1,
  parameters: {
    $id: 'nested-parameters',
    type: 'object',
    additionalProperties: false,
    properties: {
      list: { type: 'array', items: { type: 'object', additionalProperties: false, properties: { a: {} } } },
      ids: { type: 'array', items: { type: 'integer' } }
    }
  },
  rows: ({ parameters }) => [parameters]
})

for (const [name, server] of Object.entries({
  'its defaults': {},
  'the validation of the sample': validation
})) {
  t.test(`a wrong or unknown parameter is one 400, however it comes; Fastify with ${name}`, async (t) => {
    const { url } = await serveRuns(t, {
      connectionString,
      reports: [numbers, nested],
      concurrency: 0,
      server
    })
    for (const [query, message] of [
      ['count=many', /^parameters.*count.* must be integer/],
      ['count=-1', /^parameters.*count.* must be >= 0/],
      ['counts=1', /unknown parameter "counts" \(known: count, label\)/],
      ['__proto_=1', /unknown parameter "__proto_"/],
      ['count=1e400', /"count".*(finite number|integer)/]
    ] as const) {
      const get = await ask(`${url}/reports/numbers.csv?${query}`)
      const async = await ask(`${url}/reports/numbers.csv?${query}`, { headers: { prefer: 'respond-async' } })
      const run = await post(url, 'numbers', { json: Object.fromEntries(new URLSearchParams(query)) })
      for (const answer of [get, async, run]) t.match(answer, { status: 400, body: { message } }, query)
      t.same(get.body, run.body)
      t.same(get.body, async.body)
    }
    t.match(await post(url, 'numbers', { json: [] }), { status: 400, body: { message: /object/ } })
    t.match(await post(url, 'numbers', { json: null }), { status: 400 })
    t.match(await ask(`${url}/reports/numbers/runs?count=5`, { method: 'POST' }), {
      status: 400,
      body: { message: /unknown parameter "count" \(there are none/ }
    })
    t.match(await post(url, 'nested', { json: { list: [{ a: 1 }, { a: 1, b: 2 }] } }), {
      status: 400,
      body: { message: /"(list\.1\.)?b"/ }
    })
    t.match(await ask(`${url}/runs?limt=5`), { status: 400, body: { message: /unknown parameter "limt"/ } })

    const coerced = await post(url, 'nested', { json: { ids: ['1', 2] } })
    t.same(coerced.body.parameters, { ids: [1, 2] }, 'a text that is a number is none that is unknown')
    t.equal((await ask(`${url}/reports/nested.csv?ids=1`)).status, 200)
  })
}

t.test('parameters that nobody has read are no report without parameters', async (t) => {
  const { url } = await serveRuns(t, {
    connectionString,
    concurrency: 0,
    before: (app) => app.register(multipart)
  })
  const form = await curlReply('-F', 'count=7', `${url}/reports/numbers/runs`)
  t.equal(form.status, 400)
  t.match(JSON.parse(form.body.toString()), { message: 'parameters must be object' })
  t.same((await ask(`${url}/runs`)).body, [])
})

t.test('what cannot be JSON is no parameters', async (t) => {
  const { url } = await serveRuns(t, {
    connectionString,
    reports: [numbers, nested],
    concurrency: 0,
    before: (app) => app.register(multipart, { attachFieldsToBody: true })
  })
  const form = await curlReply('-F', 'count=@-;filename=x', `${url}/reports/numbers/runs`)
  t.equal(form.status, 400)
  t.match(JSON.parse(form.body.toString()), { message: 'parameters must be object' })
  const deep = '['.repeat(50_000) + ']'.repeat(50_000)
  const reply = await fetch(`${url}/reports/nested/runs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: `{"list":[{"a":${deep}}]}`
  })
  t.equal(reply.status, 400)
  t.match(await reply.json(), { message: 'parameters must be object' })
  t.same((await ask(`${url}/runs`)).body, [])
})

t.test('a run is accepted with where it is', async (t) => {
  const { url } = await serveRuns(t, { connectionString, prefix: '/api' })
  const accepted = await ask(`${url}/api/reports/numbers.csv?count=2`, {
    headers: { prefer: 'handling=strict;a="b, wait=1", Respond-Async' }
  })
  const { id } = accepted.body
  t.match(accepted, { status: 202, body: { report: 'numbers', parameters: { count: 2 }, state: 'queued' } })
  const { headers } = accepted
  t.equal(headers.get('location'), `/api/runs/${id}`)
  t.equal(headers.get('retry-after'), '1')
  t.equal(headers.get('preference-applied'), 'respond-async')
  t.match(headers.get('vary'), /prefer/)
  t.equal(headers.get('cache-control'), 'no-store')

  const run = await ended(`${url}/api`, id)
  t.match(run, {
    state: 'succeeded',
    progress: { rows: 2 },
    result: { href: `/api/runs/${id}/files/${run.result?.href.split('/').at(-1)}` }
  })
  t.equal((await curlReply('-L', `${url}/api/runs/${id}/result`)).code, 0)

  const posted = await curlReply('-X', 'POST', `${url}/api/reports/numbers/runs`)
  t.equal(posted.status, 202, 'no body is no parameters')
  t.match(JSON.parse(posted.body.toString()), { parameters: { count: 3 } })
  t.equal(posted.headers.get('preference-applied'), null)

  const before = (await ask(`${url}/api/runs`)).body.length
  const head = await ask(`${url}/api/reports/numbers.csv?count=9`, {
    method: 'HEAD',
    headers: { prefer: 'respond-async' }
  })
  t.equal(head.status, 200)
  t.equal((await ask(`${url}/api/runs`)).body.length, before, 'a HEAD makes nothing')
  const others = [
    ...['return=minimal', 'x="respond-async"', 'x="\\", respond-async"', 'x; respond-async'],
    // What is no preference is none.
    ...['x="respond-async', '"respond-async"', 'respond-async wait=5', ';respond-async']
  ]
  for (const prefer of others) {
    t.equal((await ask(`${url}/api/reports/numbers.csv`, { headers: { prefer } })).status, 200, prefer)
  }
  t.equal((await ask(`${url}/api/reports/numbers.csv`)).body, 'id,label\n1,x\n2,x\n3,x\n')
})

t.test('what is below a slash is where its links lead', async (t) => {
  for (const [outer, prefix, path] of [
    ['/', '', ''],
    ['/v1/', '', '/v1'],
    ['/v1/', '/api', '/v1/api']
  ] as const) {
    const { app, url } = await serve(t, (app) =>
      app.register(
        async (inner) => {
          const options = { connectionString, schema: newSchema(), prefix, files: new MemoryFiles() }
          await inner.register(csvRuns, { reports: [numbers], owner: 'public', ...options })
        },
        { prefix: outer }
      )
    )
    const run = await finishedRun(`${url}${path}`, 'numbers')
    t.match(run.result?.href, new RegExp(`^${path}/runs/`))
    t.equal((await ask(`${url}${run.result?.href}`)).status, 200)
    const accepted = await post(`${url}${path}`, 'numbers')
    t.match(accepted.headers.get('location'), new RegExp(`^${path}/runs/`))
    await app.close()
  }
})

t.test('a reply depends on what others have said, too', async (t) => {
  const before = (app: FastifyInstance) => app.register(cors, { origin: ['http://a', 'http://b'] })
  const { url } = await serveRuns(t, { connectionString, concurrency: 0, before })
  const reply = await ask(`${url}/reports/numbers.csv`)
  t.equal(reply.headers.get('vary'), 'Origin, prefer, accept-encoding')
  const accepted = await ask(`${url}/reports/numbers.csv`, { headers: { prefer: 'respond-async' } })
  t.equal(accepted.headers.get('vary'), 'Origin, prefer')
})

t.test('the same key is the same run for as long as it is kept', async (t) => {
  const schema = newSchema()
  const of = async (report: typeof numbers) =>
    (await serveRuns(t, { connectionString, schema, reports: [report] })).url
  const url = await of(numbers)
  const later = await of({ ...numbers, version: 2 })
  const headers = { 'idempotency-key': 'k1' }
  const run = await finishedRun(url, 'numbers', { headers, json: { count: 1, label: 'a' } })
  for (const json of [
    { count: 1, label: 'a' },
    { label: 'a', count: '1' }
  ]) {
    t.equal((await post(url, 'numbers', { headers, json })).body.id, run.id)
  }
  t.equal(
    (await post(later, 'numbers', { headers, json: { count: 1, label: 'a' } })).body.id,
    run.id,
    'though the report has changed since'
  )
  t.match(await post(url, 'numbers', { headers, json: { count: 2 } }), {
    status: 422,
    body: { code: 'CSV_EXPORT_IDEMPOTENCY_KEY_USED' }
  })
  const others = await post(url, 'numbers', { headers, user: 'bob', json: { count: 2 } })
  t.equal(others.status, 202, 'the key of another owner is another')
  t.not(
    (await post(url, 'numbers', { json: { count: 1, label: 'a' } })).body.id,
    run.id,
    'without it, a new run'
  )
  for (const key of ['', 'x'.repeat(256)]) {
    t.match(await post(url, 'numbers', { headers: { 'idempotency-key': key } }), {
      status: 400,
      body: { code: 'CSV_EXPORT_INVALID_IDEMPOTENCY_KEY' }
    })
  }
  await ask(`${url}/runs/${run.id}`, { method: 'DELETE' })
  t.not((await post(url, 'numbers', { headers, json: { count: 1, label: 'a' } })).body.id, run.id)

  const many = await Promise.all(
    Array.from({ length: 20 }, (_, index) =>
      post(index % 2 ? url : later, 'numbers', {
        headers: { 'idempotency-key': 'k2' },
        json: { count: 100 + (index % 4 < 2 ? 0 : 1) }
      })
    )
  )
  const accepted = many.filter(({ status }) => status === 202)
  t.equal(new Set(accepted.map(({ body }) => body.id)).size, 1)
  t.equal(accepted.length, 10)
  t.ok(many.every(({ status }) => status === 202 || status === 422))
})

t.test('50 equal requests to three servers are one run, until it has ended', async (t) => {
  const schema = newSchema()
  const of = async () => (await serveRuns(t, { connectionString, schema, concurrency: 0 })).url
  const urls = await Promise.all([of(), of(), of()])
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, index) =>
      post(urls[index % 3] as string, 'numbers', { json: { count: 5 } })
    )
  )
  t.ok(answers.every(({ status }) => status === 202))
  const ids = new Set(answers.map(({ body }) => body.id))
  t.equal(ids.size, 1)
  const other = await post(urls[0], 'numbers', { json: { count: 5 }, user: 'bob' })
  t.notOk(ids.has(other.body.id), 'owners never share')
  await ask(`${urls[1]}/runs/${[...ids][0]}/cancel`, { method: 'POST' })
  t.notOk(
    ids.has((await post(urls[2], 'numbers', { json: { count: 5 } })).body.id),
    'a new run once it has ended'
  )
})
