import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import t from 'tap'
import { curl, serve } from '../../../helper.ts'

const users = [
  { id: 1, name: 'Ada' },
  { id: 2, name: 'Grace, "Amazing"' }
]
const usersCsv = 'id,name\n1,Ada\n2,"Grace, ""Amazing"""\n'

async function* generate<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items
}

t.test('takes rows in every form', async (t) => {
  const forms: Record<string, () => any> = {
    array: () => users,
    set: () => new Set(users),
    generator: () =>
      (function* () {
        yield* users
      })(),
    'async generator': () => generate(users),
    'object-mode Readable': () => Readable.from(users),
    'web ReadableStream': () => ReadableStream.from(users),
    function: () => () => generate(users),
    'async function': () => async () => users
  }
  const { url } = await serve(t, (app) => {
    app.get<{ Params: { form: string } }>('/:form', (request, reply) =>
      reply.csv<any>(forms[request.params.form]?.() as any)
    )
  })
  for (const form of Object.keys(forms)) {
    const { code, body } = await curl(`${url}/${encodeURIComponent(form)}`)
    t.equal(code, 0, form)
    t.equal(body, usersCsv, form)
  }
})

t.test('headers of a download', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.csv(users, { filename: 'users.csv' }))
    app.get('/bare', (_request, reply) => reply.csv(users, { header: false }))
    app.get('/own', (_request, reply) =>
      reply
        .headers({
          'content-type': 'text/csv; charset=utf-8',
          'content-disposition': 'inline',
          'cache-control': 'private, max-age=60',
          'x-accel-buffering': 'yes'
        })
        .csv(users)
    )
  })
  const { headers } = await fetch(url)
  t.equal(headers.get('content-type'), 'text/csv; charset=utf-8; header=present')
  t.equal(headers.get('content-disposition'), 'attachment; filename=users.csv')
  t.equal(headers.get('x-content-type-options'), 'nosniff')
  t.equal(headers.get('cache-control'), 'no-store')
  t.equal(headers.get('x-accel-buffering'), 'no')
  t.equal(headers.get('content-length'), null)

  const bare = await fetch(`${url}/bare`)
  t.equal(bare.headers.get('content-type'), 'text/csv; charset=utf-8; header=absent')
  t.equal(bare.headers.get('content-disposition'), 'attachment; filename=export.csv')
  t.equal(await bare.text(), '1,Ada\n2,"Grace, ""Amazing"""\n')

  const own = await fetch(`${url}/own`)
  t.equal(own.headers.get('content-type'), 'text/csv; charset=utf-8')
  t.equal(own.headers.get('content-disposition'), 'inline')
  t.equal(own.headers.get('cache-control'), 'private, max-age=60')
  t.equal(own.headers.get('x-accel-buffering'), 'yes')
})

t.test('any file name makes a safe header', async (t) => {
  const names: Record<string, { ascii: string; full?: string }> = {
    'a"b.csv': { ascii: 'a"b.csv' },
    'line\r\nSet-Cookie: x=1.csv': { ascii: 'line__Set-Cookie: x=1.csv' },
    '../../etc/passwd': { ascii: '.._.._etc_passwd' },
    'C:\\reports\\x.csv': { ascii: 'C:_reports_x.csv' },
    'Größe 📦.csv': { ascii: 'Gr??e ?.csv', full: 'Größe 📦.csv' },
    'half \ud83d.csv': { ascii: 'half ?.csv', full: 'half \ufffd.csv' },
    '': { ascii: '' }
  }
  const { url } = await serve(t, (app) => {
    app.get<{ Querystring: { name: string } }>('/', (request, reply) =>
      reply.csv(users, { filename: Object.keys(names)[Number(request.query.name)] as string })
    )
  })
  for (const [index, expected] of Object.values(names).entries()) {
    const response = await fetch(`${url}/?name=${index}`)
    const value = response.headers.get('content-disposition') as string
    t.match(value, /^attachment; filename/)
    t.equal(response.headers.get('set-cookie'), null)
    const ascii = /filename=(?:"((?:\\.|[^"\\])*)"|([^;]*))/.exec(value)
    t.equal(
      (ascii?.[1] ?? ascii?.[2])?.replaceAll(/\\(.)/g, '$1').replaceAll(/\?+/g, '?'),
      expected.ascii.replaceAll(/\?+/g, '?'),
      value
    )
    const full = /filename\*=UTF-8''(.*)$/.exec(value)?.[1]
    if (expected.full !== undefined) t.equal(decodeURIComponent(full as string), expected.full)
    await response.body?.cancel()
  }
})

t.test('columns', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/names', (_request, reply) => reply.csv(users, { columns: ['name', 'id'] }))
    app.get('/headers', (_request, reply) =>
      reply.csv(users, { columns: [{ key: 'id', header: 'No.' }, 'name', { key: 'name' }] })
    )
    app.get('/nested', (_request, reply) =>
      reply.csv([{ id: 1, address: { city: 'Paris' } }], { columns: ['id', 'address.city'] })
    )
    app.get('/arrays', (_request, reply) => reply.csv([[1, 'Ada']], { columns: ['id', 'name'] }))
    app.get('/empty', (_request, reply) => reply.csv([], { columns: ['id', 'name'] }))
    app.get('/unknown', (_request, reply) => reply.csv([]))
    app.get('/later', (_request, reply) =>
      reply.csv<object & Record<string, any>>([{ a: 1 }, { b: 2, a: 3 }, {}])
    )
    const frozen = Object.freeze([Object.freeze({ key: 'id' as const })])
    app.get('/frozen', (_request, reply) => reply.csv(users, { columns: frozen }))
  })
  const body = async (path: string) => (await curl(url + path)).body
  t.equal(await body('/names'), 'name,id\nAda,1\n"Grace, ""Amazing""",2\n')
  t.equal(await body('/headers'), 'No.,name,name\n1,Ada,Ada\n2,"Grace, ""Amazing""","Grace, ""Amazing"""\n')
  t.equal(await body('/nested'), 'id,address.city\n1,Paris\n')
  t.equal(await body('/arrays'), 'id,name\n1,Ada\n')
  t.equal(await body('/empty'), 'id,name\n', 'a header without rows')
  t.equal(await body('/unknown'), '')
  t.equal(await body('/later'), 'a\n1\n3\n""\n', 'the first row decides')
  t.equal(await body('/frozen'), 'id\n1\n2\n')
  t.equal(await body('/frozen'), 'id\n1\n2\n', 'options are not written into')
})

t.test('defaults given at registration, overruled by the call', async (t) => {
  const { url } = await serve(
    t,
    (app) => {
      app.get('/', (_request, reply) => reply.csv(users))
      app.get('/own', (_request, reply) => reply.csv(users, { delimiter: '|', filename: undefined }))
    },
    { defaults: { delimiter: ';', filename: 'default.csv' } }
  )
  const response = await fetch(url)
  t.equal(response.headers.get('content-disposition'), 'attachment; filename=default.csv')
  t.equal(await response.text(), 'id;name\n1;Ada\n2;"Grace, ""Amazing"""\n')
  const own = await fetch(`${url}/own`)
  t.equal(
    own.headers.get('content-disposition'),
    'attachment; filename=default.csv',
    'undefined is not given'
  )
  t.equal(await own.text(), 'id|name\n1|Ada\n2|"Grace, ""Amazing"""\n')
})

t.test('the hooks of other plugins run before the first byte', async (t) => {
  const { url } = await serve(t, async (app) => {
    await app.register(cookie)
    await app.register(cors, { origin: 'https://example.com' })
    app.addHook('onSend', async (_request, reply) => {
      reply.header('x-hook', 'ran')
    })
    app.get('/', (_request, reply) => reply.setCookie('seen', 'yes').csv(users))
  })
  const response = await fetch(url)
  t.equal(response.headers.get('set-cookie'), 'seen=yes; SameSite=Lax')
  t.equal(response.headers.get('access-control-allow-origin'), 'https://example.com')
  t.equal(response.headers.get('x-hook'), 'ran')
  t.equal(await response.text(), usersCsv)
})

t.test('a Content-Length from elsewhere cuts no file', async (t) => {
  const ways: Record<string, (reply: FastifyReply) => unknown> = {
    'before the call': (reply) => reply.header('content-length', 5),
    'before the call, on the raw reply': ({ raw }) => raw.setHeader('content-length', 5),
    'in onSend': (reply) => reply.header('content-length', 5),
    'in onSend, on the raw reply': ({ raw }) => raw.setHeader('content-length', 5)
  }
  for (const version of ['--http1.1', '--http1.0', '--http2-prior-knowledge']) {
    const routes = (app: FastifyInstance) => {
      app.addHook<unknown, { Params: { way: string } }>('onSend', async ({ params: { way } }, reply) => {
        if (way.startsWith('in onSend')) ways[way]?.(reply)
      })
      app.get<{ Params: { way: string } }>('/:way', ({ params: { way } }, reply) => {
        if (way.startsWith('before')) ways[way]?.(reply)
        return reply.csv(users)
      })
    }
    const { url } = await serve(t, routes, { http2: version.startsWith('--http2') })
    for (const way of Object.keys(ways)) {
      const address = `${url}/${encodeURIComponent(way)}`
      const { code, body } = await curl(version, '--include', address)
      t.equal(code, 0, `${way}, ${version}`)
      t.ok(body.endsWith(usersCsv), body)
      t.notMatch(body, /content-length/i)
    }
  }
})

t.test('HEAD, 204 and 304 start no source and release it', async (t) => {
  let opened = 0
  let released = 0
  const rows = () => ({
    [Symbol.asyncIterator]() {
      opened++
      return generate(users)
    },
    next: () => assert.fail('it is asked for its iterator'),
    async return() {
      released++
    }
  })
  const { url, log } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.csv(rows()))
    app.route({ method: ['HEAD'], url: '/own-head', handler: (_request, reply) => reply.csv(rows()) })
    const answer = (status: number, drop: boolean) => ({
      onSend: async (_request: FastifyRequest, reply: FastifyReply, payload: unknown) => {
        reply.code(status)
        return drop ? null : payload
      }
    })
    app.get('/204', answer(204, false), (_request, reply) => reply.csv(rows()))
    app.get('/304', answer(304, true), (_request, reply) => reply.csv(rows()))
    app.get('/304-kept', (_request, reply) => reply.code(304).csv(rows()))
    const reading = async (_request: FastifyRequest, _reply: FastifyReply, payload: unknown) => {
      const chunks = await (payload as Readable).toArray()
      return Buffer.concat(chunks)
    }
    app.route({
      method: ['HEAD'],
      url: '/read-head',
      onSend: reading,
      handler: (_request, reply) => reply.csv(rows())
    })
    app.get('/error', { onSend: async () => Promise.reject(new Error('no')) }, (_request, reply) =>
      reply.csv(rows())
    )
  })
  const get = await fetch(url, { headers: { 'accept-encoding': 'gzip' } })
  await get.text()
  t.equal(opened, 1)
  t.equal(released, 0)
  const head = await fetch(url, { method: 'HEAD' })
  const names = (response: Response) =>
    [...response.headers.keys()].filter((name) => !['transfer-encoding', 'keep-alive'].includes(name))
  const described = names(get).filter((name) => name !== 'export-id')
  t.same(names(head), described, 'the same headers, but no id, as there is no receipt')
  const expected = [
    ['/own-head', 'HEAD', 200],
    ['/read-head', 'HEAD', 200],
    ['/204', 'GET', 204],
    ['/304', 'GET', 304],
    ['/304-kept', 'GET', 304],
    ['/error', 'GET', 500]
  ] as const
  for (const [path, method, status] of expected) {
    const response = await fetch(url + path, { method })
    t.equal(response.status, status, path)
    await response.text()
  }
  t.equal(opened, 1, 'no source was started')
  while (released < 7) await new Promise(setImmediate)
  t.equal(released, 7, 'each was released once')
  t.notOk(log.lines.some(({ msg }) => /left/.test(msg)))
})

t.test('rows in batches', async (t) => {
  async function* batches() {
    yield [{ a: 1 }, { a: 2 }]
    yield []
    yield [{ a: 3 }]
  }
  const { url } = await serve(t, (app) => {
    app.get('/async', (_request, reply) => reply.csv(batches(), { batches: true }))
    app.get('/sync', (_request, reply) =>
      reply.csv([[[1]], [], [[2], [3]]], { batches: true, header: false })
    )
    app.get('/none', (_request, reply) => reply.csv([[]], { batches: true, columns: ['a'] }))
    app.get('/wrong', (_request, reply) => reply.csv([[{ a: 1 }], { a: 2 }] as any, { batches: true }))
  })
  t.equal((await curl(`${url}/async`)).body, 'a\n1\n2\n3\n')
  t.equal((await curl(`${url}/sync`)).body, '1\n2\n3\n')
  t.equal((await curl(`${url}/none`)).body, 'a\n')
  t.match(await (await fetch(`${url}/wrong`)).json(), {
    code: 'CSV_EXPORT_INVALID_BATCH',
    message: 'batch 2 is a value of type object: with "batches: true", yield arrays of rows'
  })
})
