import { once } from 'node:events'
import { PassThrough, Readable, Writable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import type { FastifyReply } from 'fastify'
import t from 'tap'
import type { Receipt } from '../../../../plugins/csv-export/index.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { skipBefore } from '../../../programs.ts'

async function failing(): Promise<{ a: number }[]> {
  throw Object.assign(new Error('early'), { code: 'EARLY' })
}

async function* failingLater() {
  yield { a: 1 }
  await setTimeout(20)
  await failing()
}

const hooks: Record<string, (payload: Readable, reply: FastifyReply) => unknown> = {
  'two stages': (payload) => payload.pipe(new PassThrough()).pipe(new PassThrough()),
  'two stages of a hook that takes its time': async (payload) => {
    const last = payload.pipe(new PassThrough()).pipe(new PassThrough())
    await setTimeout(50)
    return last
  },
  'a web stream of two stages, given late': async (payload) => {
    const web = Readable.toWeb(payload.pipe(new PassThrough()).pipe(new PassThrough()))
    await setTimeout(50)
    return web
  },
  'two stages without a type': (payload, reply) => {
    reply.removeHeader('content-type')
    return payload.pipe(new PassThrough()).pipe(new PassThrough())
  },
  'stages that are piped after the failure': async (payload) => {
    const first = payload.pipe(new PassThrough())
    await once(first, 'close').catch(() => {})
    // Nobody reads what only takes bytes.
    first.pipe(new Writable())
    return first.pipe(new PassThrough()).pipe(new PassThrough())
  },
  'a stage that is fed by hand': (payload) => {
    const last = new PassThrough()
    payload.pipe(new PassThrough()).on('data', (chunk) => last.write(chunk))
    return last
  },
  "a stage that is fed by 'data'": (payload) => {
    const last = new PassThrough()
    payload.on('data', (chunk) => last.write(chunk))
    return last
  },
  'stages behind an iteration': (payload) =>
    Readable.from(payload)
      .on('error', () => {})
      .pipe(new PassThrough()),
  'an iteration that gives what it has got': (payload) =>
    Readable.from(
      (async function* () {
        const chunks: Buffer[] = []
        try {
          for await (const chunk of payload) chunks.push(chunk)
        } catch {}
        yield Buffer.concat(chunks)
      })()
    ),
  'a stage after the failure': async (payload) => {
    payload.read()
    await once(payload, 'close').catch(() => {})
    return payload.pipe(new PassThrough())
  }
}

for (const [name, hook] of Object.entries(hooks)) {
  t.test(`an early error behind ${name} is a reply`, async (t) => {
    const { url } = await serve(t, (app) => {
      app.addHook('onSend', async (_request, reply, payload) =>
        typeof payload === 'string' ? payload : hook(payload as Readable, reply)
      )
      app.get('/', (_request, reply) => reply.csv(failing))
      app.get('/later', (_request, reply) => reply.csv(() => setTimeout(20).then(failing)))
    })
    for (const path of ['', 'later']) {
      t.match(JSON.parse((await curl('--max-time', '5', `${url}/${path}`)).body), {
        statusCode: 500,
        code: 'EARLY'
      })
    }
  })
}

for (const version of ['--http1.0', '--http1.1', '--http2-prior-knowledge']) {
  t.test(
    `an early error behind hijack() breaks a reply that nobody else will send, ${version}`,
    async (t) => {
      const { opened: receipt, open: onReceipt } = gate<Receipt>()
      const { url } = await serve(
        t,
        (app) => {
          app.get('/', async (_request, reply) => {
            reply.csv(async () => setTimeout(20).then(failing))
            reply.hijack()
          })
        },
        { http2: version.startsWith('--http2'), defaults: { onReceipt } }
      )
      const { code, body } = await curl('--max-time', '5', version, url)
      t.match({ code, body }, { code: version.startsWith('--http2') ? 92 : 56, body: '' })
      t.match(await receipt, { status: 'source_failed', errorCode: 'EARLY' })
    }
  )
}

/** What hooks make of a body that has failed, as if that were all of it. */
const swallowing: Record<string, (payload: Readable, reply: FastifyReply) => unknown> = {
  'collects until it closes': async (payload) => {
    const chunks: Buffer[] = []
    payload.on('data', (chunk) => chunks.push(chunk))
    await new Promise((resolve) => payload.once('close', resolve))
    return Buffer.concat(chunks)
  },
  'gives it another charset': async (payload, reply) => {
    const chunks: Buffer[] = []
    payload.on('data', (chunk) => chunks.push(chunk))
    await new Promise((resolve) => payload.once('close', resolve))
    reply.type('text/csv; charset=iso-8859-1')
    return Buffer.concat(chunks)
  },
  'takes its type away': async (payload, reply) => {
    await t.rejects(collected(payload))
    reply.removeHeader('content-type')
    return Buffer.from('a\n1\n')
  }
}

for (const [name, hook] of Object.entries(swallowing)) {
  for (const version of ['--http1.0', '--http1.1', '--http2-prior-knowledge']) {
    t.test(`a part that a hook sends as the whole is broken off: it ${name}, ${version}`, async (t) => {
      const { opened: receipt, open: onReceipt } = gate<Receipt>()
      const { url } = await serve(
        t,
        (app) => {
          app.addHook('onSend', async (_request, reply, payload) => hook(payload as Readable, reply))
          app.get('/', (_request, reply) => reply.csv(failingLater))
        },
        { http2: version.startsWith('--http2'), defaults: { onReceipt } }
      )
      t.match(await curl('--max-time', '5', version, url), { code: version.startsWith('--http2') ? 92 : 56 })
      t.match(await receipt, { status: 'source_failed', errorCode: 'EARLY' })
    })
  }
}

t.test('nor is such a part whole to who injects', async (t) => {
  for (const hook of Object.values(swallowing)) {
    const { app } = await serve(t, (app) => {
      app.addHook('onSend', async (_request, reply, payload) => hook(payload as Readable, reply))
      app.get('/', (_request, reply) => reply.csv(failingLater))
    })
    await t.rejects(app.inject('/'), { code: 'LIGHT_ECONNRESET' })
  }
})

/** What a hook makes of a body, as it wants something else in its place. */
const instead: Record<string, (payload: Readable, reply: FastifyReply) => unknown> = {
  'says so by its status': async (payload, reply) => {
    await t.rejects(collected(payload))
    reply.code(502)
    return 'else'
  },
  'says so by its type': async (payload, reply) => {
    await t.rejects(collected(payload))
    reply.type('text/plain')
    return 'else'
  },
  'has given the body up for a reason': async (payload) => {
    payload.once('data', () => payload.destroy(new Error('too large')))
    await new Promise((resolve) => payload.once('close', resolve))
    return 'else'
  },
  'has piped it, and takes its time': async (payload, reply) => {
    await t.rejects(collected(payload.pipe(new PassThrough())))
    await setTimeout(20)
    reply.code(502)
    return 'else'
  },
  'has piped it, and gives a slow stage of its own': async (payload, reply) => {
    await t.rejects(collected(payload.pipe(new PassThrough()).pipe(new PassThrough())))
    reply.code(502)
    const other = new PassThrough()
    setTimeout(50).then(() => other.end('else'))
    return other
  },
  'has piped it, and gives a slow stream': async (payload, reply) => {
    await t.rejects(collected(payload.pipe(new PassThrough())))
    reply.code(502)
    return Readable.from(
      (async function* () {
        await setTimeout(50)
        yield 'else'
      })()
    )
  },
  'has left a loop over it': async (payload) => {
    for await (const _chunk of payload) break
    return 'else'
  }
}

async function collected(payload: Readable): Promise<void> {
  for await (const chunk of payload) void chunk
}

for (const [name, hook] of Object.entries(instead)) {
  t.test(`what a hook sends instead is whole: it ${name}`, async (t) => {
    const typed = name.includes('slow stage')
    const { url } = await serve(t, (app) => {
      app.addHook('onSend', async (_request, reply, payload) => hook(payload as Readable, reply))
      app.get('/', (_request, reply) => {
        if (typed) reply.raw.setHeader('content-type', 'text/csv')
        return reply.csv(failingLater)
      })
    })
    t.match(await curl(url), { code: 0, body: 'else' })
  })
}

const unguarded = skipBefore('5.12.8', 'an error after the head that ends no process')

t.test('a second reply after the first byte breaks the first', { skip: unguarded }, async (t) => {
  const { opened: receipt, open: onReceipt } = gate<Receipt>()
  const { url } = await serve(
    t,
    (app) => {
      app.get('/', async (_request, reply) => {
        const sent = gate()
        reply.csv(async function* ({ signal }) {
          yield { a: 1 }
          await new Promise(setImmediate)
          sent.open()
          await once(signal, 'abort')
        })
        await sent.opened
        reply.send('another')
        return reply
      })
    },
    { defaults: { onReceipt } }
  )
  t.not((await curl(url)).code, 0)
  t.match(await receipt, { status: 'source_failed', errorCode: 'CSV_EXPORT_NOT_RETURNED' })
})

for (const version of ['--http1.1', '--http1.0', '--http2-prior-knowledge']) {
  t.test(
    `a head that somebody else has written, with a length, ${version}`,
    { skip: unguarded },
    async (t) => {
      const thrown = gate<unknown>()
      const { url } = await serve(
        t,
        (app) => {
          app.get('/', (_request, reply) => {
            reply.raw.writeHead(200, { 'Content-Length': 5 })
            try {
              return reply.csv([{ a: 1 }, { a: 2 }, { a: 3 }])
            } catch (error) {
              thrown.open(error)
              throw error
            }
          })
        },
        { http2: version.startsWith('--http2') }
      )
      const { code } = await curl(version, '--max-time', '10', url)
      t.not(code, 0, 'is no file that is cut at that length')
      t.match(await thrown.opened, { code: 'CSV_EXPORT_REPLY_SENT' })
    }
  )
}

for (const http2 of [false, true]) {
  t.test(
    `an error reply that a hook makes wait, instead of a body with trailers, HTTP/${http2 ? 2 : 1.1}`,
    { skip: skipBefore('5.12.8', 'a handlerTimeout') },
    async (t) => {
      const { url } = await serve(
        t,
        (app) => {
          app.addHook('onSend', async (_request, _reply, payload) => {
            if (typeof payload === 'string') await setTimeout(30)
            return payload
          })
          app.setErrorHandler((error: { code: string }, { query }, reply) =>
            (query as { export?: string }).export ? reply.csv([{ code: error.code }]) : reply.send(error)
          )
          app.get('/', (_request, reply) =>
            reply.csv(async function* ({ signal }) {
              await once(signal, 'abort')
              yield { never: 1 }
            })
          )
        },
        { http2, server: { handlerTimeout: 50 } }
      )
      const get = (path: string) =>
        curl('--raw', http2 ? '--http2-prior-knowledge' : '--http1.1', '-H', 'TE: trailers', url + path)
      t.match(await get('/'), { code: 0, body: /FST_ERR_HANDLER_TIMEOUT/ })
      t.match(await get('/?export=1'), { code: 0, body: /code\nFST_ERR_HANDLER_TIMEOUT\n/ })
    }
  )
}
