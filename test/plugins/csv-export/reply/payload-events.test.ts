import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { PassThrough, Readable } from 'node:stream'
import { createGzip } from 'node:zlib'
import express from '@fastify/express'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import type { SourceInput } from '../../../../plugins/csv-export/index.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { skipBefore } from '../../../programs.ts'
import { addHook, type Hook, versions } from './hooked.ts'

// A hook that watches the payload, to count downloads or to log them, hears what it would of any stream that Fastify sends.

const rows = [{ text: 'some text' }]
const skip = skipBefore('5.12.8', 'a handlerTimeout and a signal of the request')

/** The events of a payload and of its reply, in their order. */
async function watch(
  t: Test,
  routes: (app: FastifyInstance) => unknown,
  { http2 = false, hook = (payload: Readable): unknown => payload } = {}
) {
  const events: string[] = []
  const gates = { close: gate(), onResponse: gate() }
  const add = (event: string): void => {
    events.push(event)
    gates[event as keyof typeof gates]?.open()
  }
  const watching: Hook = (payload) => {
    for (const event of ['end', 'error', 'close']) payload.on(event, () => add(event))
    return hook(payload)
  }
  const { app, url, log } = await serve(
    t,
    async (app) => {
      addHook(app, watching)
      app.addHook('onResponse', async () => add('onResponse'))
      app.addHook('onError', async (_request, _reply, { code }) => add(`onError ${code}`))
      await routes(app)
    },
    { http2 }
  )
  return { app, url, log, events, closed: gates.close.opened, over: gates.onResponse.opened }
}

for (const version of versions) {
  const http2 = version.startsWith('--http2')

  t.test(`a whole file, ${version}`, async (t) => {
    const { url, events, closed, over } = await watch(
      t,
      (app) => app.get('/', (_request, reply) => reply.csv(rows)),
      { http2 }
    )
    t.match(await curl(version, url), { code: 0 })
    await Promise.all([closed, over])
    t.equal(events[0], 'end', 'it has ended when the reply is logged')
    t.same(events.toSorted(), ['close', 'end', 'onResponse'])
  })

  for (const [name, options] of Object.entries({ HEAD: ['--head'], 204: [], 304: [] })) {
    t.test(`a reply without a body: ${name}, ${version}`, async (t) => {
      const { url, events, closed, over } = await watch(
        t,
        (app) => app.get('/', (_request, reply) => reply.code(Number(name) || 200).csv(rows)),
        { http2 }
      )
      t.match(await curl(version, ...options, url), { code: 0 })
      await Promise.all([closed, over])
      t.same(events.toSorted(), ['close', 'end', 'onResponse'])
    })
  }

  t.test(`one behind what a hook wraps it in, ${version}`, async (t) => {
    for (const code of [200, 304]) {
      const { url, events, closed, over } = await watch(
        t,
        (app) => app.get('/', (_request, reply) => reply.code(code).csv(rows)),
        { http2, hook: (payload) => new Readable().wrap(payload) }
      )
      t.match(await curl(version, '--max-time', '10', url), {
        code: 0,
        body: code === 200 ? 'text\nsome text\n' : ''
      })
      await Promise.all([closed, over])
      t.same(events.toSorted(), ['close', 'end', 'onResponse'])
    }
  })

  t.test(`a whole file that a hook reads, ${version}`, async (t) => {
    const { url, events, closed } = await watch(
      t,
      (app) => app.get('/', (_request, reply) => reply.csv(rows)),
      { http2, hook: (payload) => payload.pipe(new PassThrough()) }
    )
    t.match(await curl(version, url), { code: 0, body: 'text\nsome text\n' })
    await closed
    t.notOk(events.includes('error'))
  })
}

t.test('a hook that has drained a reply without a body may hand it on', async (t) => {
  const hook = async (payload: Readable) => {
    await once(payload.resume(), 'end')
    return payload
  }
  const { url, events, over } = await watch(
    t,
    (app) => app.get('/', (_request, reply) => reply.code(304).csv(rows)),
    { hook }
  )
  t.match(await curl('--max-time', '10', '--write-out', '%{http_code}', url), { code: 0, body: '304' })
  await over
  t.same(events.toSorted(), ['close', 'end', 'onResponse'])
})

t.test('a hook that collects the payload may wait for its close', async (t) => {
  const hook = async (payload: Readable) => {
    const chunks: Buffer[] = []
    payload.on('data', (chunk: Buffer) => chunks.push(chunk))
    await once(payload, 'close')
    return Buffer.concat(chunks)
  }
  const { url } = await watch(t, (app) => app.get('/', (_request, reply) => reply.csv(rows)), { hook })
  t.match(await curl(url), { code: 0, body: 'text\nsome text\n' })
})

t.test('one that is injected', async (t) => {
  for (const code of [200, 304]) {
    const { app, events, closed, over } = await watch(t, (app) =>
      app.get('/', (_request, reply) => reply.code(code).csv(rows))
    )
    t.equal((await app.inject('/')).statusCode, code)
    await Promise.all([closed, over])
    t.same(events.toSorted(), ['close', 'end', 'onResponse'])
    t.equal(events[0], 'end')
  }
})

t.test('one that an error reply replaces has no end', { skip }, async (t) => {
  for (const [name, expected] of Object.entries({ timeout: 503, thrown: 500 })) {
    const { url, events, closed } = await watch(t, (app) => {
      app.get('/timeout', { handlerTimeout: 50 }, (_request, reply) => reply.csv(never))
      app.get('/thrown', async (_request, reply) => {
        reply.csv(never)
        await new Promise(setImmediate)
        throw new Error('thrown')
      })
    })
    t.equal(JSON.parse((await curl(`${url}/${name}`)).body).statusCode, expected)
    await closed
    t.notOk(events.includes('end'), name)
    t.notOk(events.includes('error'), name)
  }
})

/** Without a row, for as long as somebody waits. */
const never: SourceInput<{ text: string }> = async ({ signal }) => {
  if (!signal.aborted) await once(signal, 'abort')
  return []
}

for (const [name, hook] of Object.entries({
  'no hook': (payload: Readable) => payload,
  'a hook that pipes': (payload: Readable) => payload.pipe(createGzip()),
  'a hook that listens': (payload: Readable) => payload.on('data', () => {})
})) {
  t.test(`one whose client leaves before its head is no error of the server: ${name}`, async (t) => {
    for (const trailers of ['', 'TE: trailers\r\n']) {
      const { url, events, log, closed, app } = await watch(
        t,
        (app) => app.get('/', (_request, reply) => reply.csv(never)),
        { hook }
      )
      await leave(app, url, `GET / HTTP/1.1\r\nHost: a\r\n${trailers}\r\n`)
      await closed
      t.notOk(events.includes('end'))
      t.notOk(
        events.some((event) => event.startsWith('onError')),
        events.join()
      )
      t.same(
        log.lines.filter(({ level }) => level > 40),
        []
      )
    }
  })
}

t.test('nor is that of a request whose body has been read', async (t) => {
  const { url, events, closed, app } = await watch(t, (app) =>
    app.post('/', (_request: FastifyRequest, reply) => reply.csv(never))
  )
  const head = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n'
  await leave(app, url, `${head}{}`)
  await closed
  t.notOk(
    events.some((event) => event.startsWith('onError')),
    events.join()
  )
})

t.test('nor is one that leaves midway, or a source that fails then, with @fastify/express', async (t) => {
  const { url, events, closed, log, app } = await watch(t, async (app) => {
    await app.register(express as never)
    app.get('/', (_request, reply) =>
      reply.csv(async function* ({ signal }) {
        yield* rows
        await once(signal, 'abort')
      })
    )
    app.get('/failing', (_request, reply) =>
      reply.csv(async function* () {
        yield* rows
        await new Promise(setImmediate)
        throw new Error('late')
      })
    )
  })
  const [client] = (await once(get(url), 'response')) as [IncomingMessage]
  await once(client, 'data')
  client.destroy()
  await closed
  t.same(events, ['close'])
  t.not((await curl(`${url}/failing`)).code, 0)
  await app.close()
  t.same(events, ['close', 'close'])
  const told = log.lines.filter(({ level }) => level >= 40).map(({ msg }) => msg)
  t.same(told, ['export source_failed'])
})

/** Sends a request, and leaves once it runs. */
async function leave(app: FastifyInstance, url: string, request: string): Promise<void> {
  const client = connect(Number(new URL(url).port), '127.0.0.1')
  client.on('error', () => {}).write(request)
  while (app.csvExports.running().length === 0) await new Promise(setImmediate)
  client.destroy()
}
