import { createWriteStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable, finished as whenFinished } from 'node:stream'
import { text as collected } from 'node:stream/consumers'
import { pipeline as pipelined } from 'node:stream/promises'
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { curl, gate, serve } from '../../../helper.ts'
import { skipBefore } from '../../../programs.ts'
import { type Hook, row, serveWith, versions, whole } from './hooked.ts'

// What hooks answer themselves, or leave to Fastify.

for (const version of versions) {
  t.test(`a hook that swallows an early error has no empty file, ${version}`, async (t) => {
    const hook: Hook = async (payload) => {
      let text = ''
      try {
        for await (const chunk of payload) text += chunk
      } catch {}
      return text
    }
    const { url } = await serveWith(t, hook, version)
    for (let n = 0; n < 3; n++) t.not((await curl('--max-time', '5', version, `${url}/early`)).code, 0)
  })
}

for (const version of versions) {
  t.test(`a hook keeps the file, and says so when it has it, ${version}`, async (t) => {
    const file = join(t.testdir(), 'kept.csv')
    const hook: Hook = async (payload, reply) => {
      await pipelined(payload, createWriteStream(file))
      reply.code(201).type('application/json')
      return '{"kept":true}'
    }
    const { url, receipt } = await serveWith(t, hook, version)
    t.match(await curl(version, `${url}/whole`), { code: 0, body: '{"kept":true}' })
    t.match(await receipt(), { status: 'complete', rows: 5_000 })
    t.equal(await readFile(file, 'utf8'), whole)
  })

  const soon: Record<string, Hook> = {
    'at once': (payload, reply) => {
      reply.code(202).type('application/json')
      payload.pipe(new PassThrough().resume())
      return '{"kept":"soon"}'
    },
    'without a word': (payload, reply) => {
      payload.pipe(new PassThrough().resume())
      reply.code(204)
      return null
    },
    'after a while': async (payload, reply) => {
      payload.pipe(new PassThrough().resume())
      await setTimeout(20)
      reply.code(202).type('application/json')
      return '{"kept":"soon"}'
    }
  }
  for (const [name, hook] of Object.entries(soon)) {
    t.test(`one that says so before, ${name}, is told that it may not, ${version}`, async (t) => {
      const { url, log } = await serveWith(t, hook, version)
      const { code } = await curl('--max-time', '5', version, `${url}/endless`)
      // HTTP/2 ends a reply that has no body with its head.
      if (name !== 'without a word' || !version.startsWith('--http2')) t.not(code, 0)
      const line = await log.find(/broken off before its body|export source_failed/)
      t.match(line, { level: 50, err: { code: /CSV_EXPORT_(REPLACED|BODY_DESTROYED)/ } })
    })
  }
}

t.test('an answer before anything has been read is told of, too', async (t) => {
  const { url, log } = await serve(t, (app) => {
    app.addHook('onSend', (_request, _reply, payload, done) => {
      if (payload instanceof Readable) payload.pipe(new PassThrough().resume())
      done(null, 'kept')
    })
    app.get('/', (_request, reply) => reply.csv([row]))
  })
  t.not((await curl(url)).code, 0)
  t.match(await log.find(/broken off before its body has begun/), { err: { code: 'CSV_EXPORT_REPLACED' } })
})

const trailers = { skip: skipBefore('5.12.8', 'trailers of a stream') }

t.test('a hook that pipes announces trailers with commas between', trailers, async (t) => {
  const { url } = await serveWith(t, (payload) => payload.pipe(new PassThrough()))
  const { body } = await curl('-i', '--raw', '-H', 'TE: trailers', '-H', 'Connection: TE', `${url}/whole`)
  t.match(body, /^trailer: export-rows, repr-digest\r$/im)
})

t.test(
  'who injects, and gives up, has left',
  { skip: skipBefore('5.12.8', 'a head that is written once') },
  async (t) => {
    const { app, receipt } = await serveWith(t, (payload) => payload)
    const controller = new AbortController()
    const injected = app.inject({ url: '/endless', signal: controller.signal })
    setTimeout(20).then(() => controller.abort())
    await t.rejects(injected)
    t.match(await receipt(), { status: 'client_gone' })
  }
)

for (const status of [204, 304]) {
  t.test(`a hook that answers ${status} has no trailers`, async (t) => {
    const { url } = await serveWith(t, (_payload, reply) => {
      reply.code(status)
      return null
    })
    const { code, body } = await curl('-i', '-H', 'TE: trailers', '-H', 'Connection: TE', `${url}/whole`)
    t.equal(code, 0)
    t.match(body, new RegExp(`^HTTP/1.1 ${status} `))
    t.notMatch(body, /^trailer:/im)
  })
}

t.test('a text that a hook makes announces trailers with commas between, too', trailers, async (t) => {
  const { url } = await serveWith(t, (payload) => collected(payload))
  const { body } = await curl('-i', '-H', 'TE: trailers', '-H', 'Connection: TE', `${url}/whole`)
  t.match(body, /^trailer: export-rows, repr-digest\r$/im)
})

for (const version of versions) {
  t.test(`a payload that is only watched says how it ended, ${version}`, async (t) => {
    const { url, receipt } = await serveWith(
      t,
      (payload) => {
        payload.once('close', () => closed.open())
        whenFinished(payload, (error) => ended.open(error?.code))
        return payload
      },
      version
    )
    let closed = gate()
    let ended = gate<string | undefined>()
    const ends = {
      whole: undefined,
      late: 'ERR_STREAM_PREMATURE_CLOSE',
      endless: 'ERR_STREAM_PREMATURE_CLOSE'
    }
    for (const [path, code] of Object.entries(ends)) {
      closed = gate()
      ended = gate()
      await curl('--max-time', '1', version, `${url}/${path}`)
      await receipt()
      t.equal(await ended.opened, code, path)
      await closed.opened
    }
  })
}

for (const version of versions) {
  t.test(`a client that leaves is nothing to warn of, ${version}`, async (t) => {
    const { url, log, receipt } = await serveWith(t, (payload) => payload, version)
    await curl('--max-time', '1', version, `${url}/endless`)
    t.match(await receipt(), { status: 'client_gone' })
    await log.find(/^export client_gone/)
    await new Promise(setImmediate)
    t.same(
      log.lines.filter(({ level }) => level > 30),
      []
    )
  })
}
