import { once } from 'node:events'
import { PassThrough, pipeline, Readable } from 'node:stream'
import { text as collected } from 'node:stream/consumers'
import { pipeline as pipelined } from 'node:stream/promises'
import { setTimeout } from 'node:timers/promises'
import { createGzip } from 'node:zlib'
import t from 'tap'
import { curl, gate, serve } from '../../../helper.ts'
import { skipBefore } from '../../../programs.ts'
import { addHook, type Hook, row, serveWith, versions } from './hooked.ts'

// An error reply that is made while a hook, or what it makes of the body, still reads: one, and nobody waits for good.

// Each waits most of its time.
t.jobs = 3
const skip = skipBefore('5.12.8', 'a handlerTimeout')

for (const version of versions) {
  t.test(`a time-out before the first byte of a stage is told once, ${version}`, { skip }, async (t) => {
    const { url, log } = await serve(
      t,
      (app) => {
        addHook(app, (payload) => payload.pipe(new PassThrough()))
        app.get('/', (_request, reply) => reply.csv(({ signal }) => once(signal, 'abort') as Promise<never>))
        app.register(async (app) => {
          app.setErrorHandler<{ code: string }>(({ code }, _request, reply) => reply.csv([{ code }]))
          app.get('/handled', (_request, reply) =>
            reply.csv(({ signal }) => once(signal, 'abort') as Promise<never>)
          )
        })
      },
      { http2: version.startsWith('--http2'), server: { handlerTimeout: 50 } }
    )
    const { code, body } = await curl(version, url)
    t.equal(code, 0)
    t.match(JSON.parse(body), { statusCode: 503, code: 'FST_ERR_HANDLER_TIMEOUT' })
    t.match(await curl(version, `${url}/handled`), { code: 0, body: 'code\nFST_ERR_HANDLER_TIMEOUT\n' })
    t.notOk(log.lines.some(({ msg }) => /already sent/.test(msg)))
  })
}

/** Streams that fail with the body by themselves. */
const tied: Record<string, Hook> = {
  'a pipeline': (payload) => pipeline(payload, new PassThrough(), () => {}),
  'an iteration': (payload) => Readable.from(payload),
  // What it has not read yet, it reads while the error reply is made.
  'a pipeline that holds back': (payload) => {
    const stage = new PassThrough({
      transform: (_chunk, _encoding, done) => void setTimeout(40).then(() => done())
    })
    return pipeline(payload, stage, () => {})
  },
  'a stream of the web': (payload) => Readable.toWeb(payload),
  'a listener': (payload) => {
    const stage = new PassThrough()
    payload.on('error', (error) => stage.destroy(error)).pipe(stage)
    return stage
  }
}

for (const [name, hook] of Object.entries(tied)) {
  for (const version of versions) {
    t.test(`an early error is told once behind ${name}, ${version}`, { skip, buffered: true }, async (t) => {
      const told: string[] = []
      const { url, log } = await serve(
        t,
        (app) => {
          addHook(app, hook)
          app.setErrorHandler<{ code: string }>(async ({ code }, _request, reply) => {
            await setTimeout(100)
            return reply.code(500).send({ handled: code })
          })
          app.get('/late', (_request, reply) =>
            reply.csv(({ signal }) => once(signal, 'abort') as Promise<never>)
          )
          app.get('/early', (_request, reply) =>
            reply.csv(async () => {
              await setTimeout(20)
              throw Object.assign(new Error('early'), { code: 'EARLY' })
            })
          )
          app.get('/full', (_request, reply) =>
            reply.csv(function* () {
              for (let n = 0; n < 100_000; n++) yield row
            })
          )
          app.get('/thrown', async (_request, reply) => {
            reply.csv(({ signal }) => once(signal, 'abort') as Promise<never>)
            await setTimeout(20)
            throw Object.assign(new Error('audit'), { code: 'AUDIT' })
          })
        },
        {
          http2: version.startsWith('--http2'),
          server: { handlerTimeout: 400 },
          // Ahead of the plugin's own.
          before: (app) =>
            app.addHook('onError', async (_request, _reply, { code }) => {
              await setTimeout(20)
              told.push(code)
            })
        }
      )
      const held = name.includes('holds back') ? { full: 'FST_ERR_HANDLER_TIMEOUT' } : {}
      for (const [path, code] of Object.entries({
        ...held,
        early: 'EARLY',
        late: 'FST_ERR_HANDLER_TIMEOUT',
        thrown: 'AUDIT'
      })) {
        const reply = await curl('--max-time', '5', version, `${url}/${path}`)
        t.match(reply, { code: 0, body: JSON.stringify({ handled: code }) }, path)
        t.same(told.splice(0), [code])
      }
      t.notOk(log.lines.some(({ msg }) => /already sent/.test(msg)))
    })
  }
}

/** Copies that hooks make beside a stage. */
const copies: Record<string, (payload: Readable) => Promise<unknown>> = {
  'a pipeline': (payload) => pipelined(payload, new PassThrough().resume()),
  'a pipe': (payload) => once(payload.pipe(new PassThrough().resume()), 'close'),
  'an iteration': (payload) => collected(payload)
}

for (const [name, copy] of Object.entries(copies)) {
  t.test(`an error handler may wait for ${name} of a hook`, async (t) => {
    const warnings: Error[] = []
    const onWarning = (warning: Error) => warnings.push(warning)
    process.on('warning', onWarning)
    t.teardown(() => process.off('warning', onWarning))
    let copied: Promise<unknown> | undefined
    const { url } = await serve(t, (app) => {
      addHook(app, (payload) => {
        // That of the error reply passes here, too.
        if (copied !== undefined) return payload
        copied = copy(payload).catch(() => 'told')
        return pipeline(payload, createGzip(), () => {})
      })
      app.setErrorHandler<{ code: string }>(async ({ code }, _request, reply) => {
        await copied
        return reply.code(500).send(Readable.from([code]))
      })
      app.get('/', (_request, reply) =>
        reply.csv(async () => {
          await setTimeout(20)
          throw Object.assign(new Error('early'), { code: 'EARLY' })
        })
      )
    })
    t.match(await curl('--max-time', '5', url), { code: 0, body: 'EARLY' })
    t.same(warnings, [])
  })
}

t.test('an error handler may wait for a copy beside the body itself', { skip }, async (t) => {
  let copied: Promise<unknown> | undefined
  const { url } = await serve(
    t,
    (app) => {
      addHook(app, (payload) => {
        copied = pipelined(payload, new PassThrough().resume()).catch(() => {})
        return payload
      })
      app.setErrorHandler<{ code: string }>(async ({ code }, _request, reply) => {
        await copied
        return reply.code(503).send({ code })
      })
      app.get('/', (_request, reply) => reply.csv(({ signal }) => once(signal, 'abort') as Promise<never>))
    },
    { server: { handlerTimeout: 50 } }
  )
  t.match(await curl('--max-time', '5', url), { code: 0, body: /FST_ERR_HANDLER_TIMEOUT/ })
})

t.test('a stage that is piped into once the server has closed has an error reply', async (t) => {
  const { opened: waits, open: wait } = gate()
  const { app, url } = await serveWith(t, (payload) => {
    const stage = new PassThrough()
    wait()
    setTimeout(60).then(() => payload.pipe(stage))
    return stage
  })
  const reply = curl('--max-time', '5', `${url}/whole`)
  await waits
  await new Promise(setImmediate)
  await app.close()
  t.match(JSON.parse((await reply).body), { statusCode: 503, code: 'CSV_EXPORT_SERVER_CLOSING' })
})
