import { setTimeout } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import { serializerCompiler } from 'fastify-type-provider-zod'
import t, { type Test } from 'tap'
import { Type } from 'typebox'
import { z } from 'zod'
import * as mini from 'zod/mini'
import * as errors from '../../../../plugins/csv-export/errors.ts'
import { csvExport, csvResponse } from '../../../../plugins/csv-export/index.ts'
import { gate, serve } from '../../../helper.ts'

const Order = Type.Object({
  id: Type.Integer({ title: 'No.' }),
  total: Type.Union([Type.Number(), Type.Null()], { description: 'Net, in euros' }),
  when: Type.String({ format: 'date-time' }),
  any: Type.Any()
})

type Name = keyof typeof errors
const names = Object.keys(errors) as Name[]
const classes: Record<string, unknown> = { ...errors }
const errorOf = (name: Name) => new (classes[name] as new (...values: string[]) => Error)('a', 'b', 'c')
const statusOf = (name: Name) => (errorOf(name) as unknown as { statusCode: number }).statusCode

/** Of errors that are told of by other means: there is nobody left to reply to. */
const neverReplies = [408, 499]

t.test('text/csv is a string, and its description lists the columns', async (t) => {
  const { description, content } = csvResponse(Order)[200]
  t.same(content, { 'text/csv': { schema: { type: 'string' } } })
  t.equal(
    description,
    'CSV, with these columns:\n\n' +
      '- `No.`: integer\n- `total`: number. Net, in euros\n- `when`: string (date-time)\n- `any`: any'
  )
  const kinds: [schema: object, kind: string][] = [
    [{ type: ['string', 'integer', 'null'] }, 'string or integer'],
    [Type.Union([Type.Literal('a'), Type.Literal('b'), Type.Null()]), 'string'],
    [z.toJSONSchema(z.union([z.string(), z.int(), z.null()])), 'string or integer'],
    [{ oneOf: [{ type: 'boolean' }, { type: 'number' }] }, 'boolean or number'],
    [{ enum: [1, 'a'] }, 'any']
  ]
  for (const [a, kind] of kinds) {
    t.equal(csvResponse({ properties: { a } })[200].description.split('\n').at(-1), `- \`a\`: ${kind}`)
  }
})

t.test('each status of our errors that is a reply is there, and no other', async (t) => {
  const statuses = new Set(names.map(statusOf).filter((status) => !neverReplies.includes(status)))
  t.same(Object.keys(csvResponse(Order)), [200, ...statuses].sort())
})

t.test('options are checked', async (t) => {
  const wrong: [options: object, code: string, message: RegExp][] = [
    [{ zod: 'zod' }, 'CSV_EXPORT_INVALID_OPTION', /"zod" must be zod itself/],
    [{ zod: z.string() }, 'CSV_EXPORT_INVALID_OPTION', /"zod" must be zod itself/],
    [{ error: 'Error' }, 'CSV_EXPORT_INVALID_OPTION', /"error" must be a schema/],
    [{ errors: {} }, 'CSV_EXPORT_UNKNOWN_OPTION', /did you mean "error"/]
  ]
  for (const [options, code, message] of wrong) t.throws(() => csvResponse(Order, options), { code, message })
  t.throws(() => csvResponse({ properties: {} }), { code: 'CSV_EXPORT_INVALID_OPTION' })
  t.same(
    Object.keys(csvResponse(Order, { zod: undefined, error: undefined })),
    Object.keys(csvResponse(Order))
  )
})

/** What a route can say, and the compiler that takes it. */
const responses = {
  none: { response: undefined, compiler: undefined },
  json: { response: csvResponse(Order), compiler: undefined },
  zod: { response: csvResponse(Order, { zod: z }), compiler: serializerCompiler },
  mini: { response: csvResponse(Order, { zod: mini }), compiler: serializerCompiler }
}
const kinds = Object.keys(responses) as (keyof typeof responses)[]

/** The same routes once for each of them, below its name. */
function forEach(app: FastifyInstance, add: (app: FastifyInstance) => void): void {
  for (const kind of kinds) {
    const { response, compiler } = responses[kind]
    app.register(
      async (scope) => {
        if (compiler !== undefined) scope.setSerializerCompiler(compiler)
        scope.addHook('onRoute', (route) => {
          if (response !== undefined) route.schema = { response }
        })
        add(scope)
      },
      { prefix: kind }
    )
  }
}

/** What does not differ from one request to the next. */
async function fetched(url: string, kind: string, path: string, init?: RequestInit) {
  const response = await fetch(`${url}/${kind}${path}`, init)
  const headers = Object.fromEntries(response.headers)
  for (const name of ['date', 'export-id']) delete headers[name]
  return { status: response.status, headers, body: await response.text() }
}

async function sameAsWithout(t: Test, url: string, path: string, init?: RequestInit) {
  const [without, ...others] = await Promise.all(kinds.map((kind) => fetched(url, kind, path, init)))
  for (const [index, other] of others.entries()) t.same(other, without, `${path} ${kinds[index + 1]}`)
  return without as Awaited<ReturnType<typeof fetched>>
}

t.test('each error of ours is the same reply as without', async (t) => {
  const { url } = await serve(t, (app) =>
    forEach(app, (app) => {
      app.get<{ Params: { name: Name } }>('/:name', async ({ params }) => {
        throw errorOf(params.name)
      })
    })
  )
  for (const name of names.filter((name) => !neverReplies.includes(statusOf(name)))) {
    const { status, body } = await sameAsWithout(t, url, `/${name}`)
    t.equal(status, statusOf(name))
    const { message } = errorOf(name)
    t.match(JSON.parse(body), { statusCode: status, code: name, message, error: String }, name)
  }
})

t.test(
  'a file, HEAD, and what a limit or the plugin makes of a request are the same as without',
  async (t) => {
    const { url } = await serve(t, (app) =>
      forEach(app, (app) => {
        const rows = [{ id: 1 }, { id: 2 }]
        app.get('/whole', (_request, reply) => reply.csv(rows, { filename: 'a.csv' }))
        app.get('/long', (_request, reply) => reply.csv(rows, { maxRows: 1 }))
        app.get('/slow', (_request, reply) =>
          reply.csv(({ signal }) => setTimeout(5_000, rows, { signal }), { sourceTimeout: 20 })
        )
        app.get('/wrong', (_request, reply) => reply.csv(rows, { delimiter: '"' }))
      })
    )
    const status = async (path: string, init?: RequestInit) =>
      (await sameAsWithout(t, url, path, init)).status
    t.equal((await sameAsWithout(t, url, '/whole')).body, 'id\n1\n2\n')
    t.match(await sameAsWithout(t, url, '/whole', { method: 'HEAD' }), {
      status: 200,
      headers: { 'content-disposition': /a\.csv/ },
      body: ''
    })
    t.equal(await status('/whole', { headers: { range: 'bytes=5-' } }), 412)
    t.equal(await status('/long'), 422)
    t.equal(await status('/wrong'), 500)
    t.equal(await status('/slow'), 504)
  }
)

t.test('so is the refusal of an export that is one too many, with its Retry-After', async (t) => {
  const { opened: ended, open: end } = gate()
  const concurrencyKey = ({ headers }: { headers: object }) => (headers as { key?: string }).key
  const { url } = await serve(
    t,
    (app) =>
      forEach(app, (app) => {
        app.get('/', (_request, reply) =>
          reply.csv(async function* () {
            yield { id: 1 }
            await ended
          })
        )
      }),
    { defaults: { maxConcurrent: 2, maxConcurrentPerKey: 1, concurrencyKey } }
  )
  const refused = { headers: { 'retry-after': '10' }, body: /"code":"CSV_EXPORT_TOO_MANY/ }
  const of = (key: string) => ({ headers: { key } })
  const first = await fetch(`${url}/none/`, of('a'))
  t.match(await sameAsWithout(t, url, '/', of('a')), { ...refused, status: 429 })
  const second = await fetch(`${url}/none/`, of('b'))
  t.match(await sameAsWithout(t, url, '/', of('c')), { ...refused, status: 503 })
  end()
  for (const response of [first, second]) t.equal(await response.text(), 'id\n1\n')
})

t.test(
  'an error handler of the user says what it says without, with a schema of its own where it needs one',
  async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(csvExport)
    const handler = (sent: object) => (_error: unknown, _request: unknown, reply: any) =>
      reply.code(500).send(sent)
    const problem = Type.Object({ error: Type.Object({ code: Type.String() }) })
    const zodProblem = z.object({ error: z.object({ code: z.string() }) })
    const nested = { error: { code: 'wrong' } }
    const more = { message: 'wrong', requestId: 'r1' }
    const cases = [
      { path: '/more', sent: more, response: csvResponse(Order), compiler: undefined },
      {
        path: '/nested',
        sent: nested,
        response: csvResponse(Order, { error: problem }),
        compiler: undefined
      },
      {
        path: '/zod',
        sent: nested,
        response: csvResponse(Order, { zod: z, error: zodProblem }),
        compiler: serializerCompiler
      }
    ]
    for (const { path, sent, response, compiler } of cases) {
      app.register(async (scope) => {
        if (compiler !== undefined) scope.setSerializerCompiler(compiler)
        scope.setErrorHandler(handler(sent))
        scope.get(path, { schema: { response } }, () => Promise.reject(new Error('wrong')))
      })
    }
    for (const { path, sent } of cases) t.same((await app.inject(path)).json(), sent, path)
  }
)
