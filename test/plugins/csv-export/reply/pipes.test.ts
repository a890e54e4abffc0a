import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { finished, PassThrough, pipeline, Readable, Stream, Transform, Writable } from 'node:stream'
import { text as collected } from 'node:stream/consumers'
import { pipeline as pipelined } from 'node:stream/promises'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply } from 'fastify'
import t, { type Test } from 'tap'
import type { Receipt } from '../../../../plugins/csv-export/index.ts'
import { curl, gate, type Log, serve } from '../../../helper.ts'
import { skipBefore } from '../../../programs.ts'

// What hooks pipe a body into: a way to the reply, copies beside it, and what is there for all requests.

type Hook = (payload: Readable, reply: FastifyReply) => unknown

const row = { text: 'some text of a row' }
const whole = `text\n${'some text of a row\n'.repeat(5_000)}`
const versions = ['--http1.0', '--http1.1', '--http2-prior-knowledge']

function addHook(app: FastifyInstance, hook: Hook): void {
  app.addHook('onSend', async (_request, reply, payload) =>
    payload instanceof Readable ? hook(payload, reply) : payload
  )
}

function addRoutes(app: FastifyInstance, hook: Hook): void {
  addHook(app, hook)
  app.get('/whole', (_request, reply) =>
    reply.csv(function* () {
      for (let n = 0; n < 5_000; n++) yield row
    })
  )
  app.get('/early', (_request, reply) =>
    reply.csv(async () => {
      await setTimeout(20)
      throw Object.assign(new Error('early'), { code: 'EARLY' })
    })
  )
  app.get('/late', (_request, reply) =>
    reply.csv(async function* () {
      yield row
      await setTimeout(20)
      throw Object.assign(new Error('late'), { code: 'LATE' })
    })
  )
  app.get('/limit', (_request, reply) => reply.csv([row, row], { maxRows: 1 }))
  app.get('/endless', (_request, reply) =>
    reply.csv(async function* ({ signal }) {
      yield row
      if (!signal.aborted) await once(signal, 'abort')
    })
  )
}

interface Served {
  app: FastifyInstance
  url: string
  log: Log
  /** The next receipt. */
  receipt(): Promise<Receipt>
}

async function serveWith(t: Test, hook: Hook, version = '--http1.1'): Promise<Served> {
  const waiting: ((receipt: Receipt) => void)[] = []
  const told: Receipt[] = []
  const { app, url, log } = await serve(t, (app) => addRoutes(app, hook), {
    http2: version.startsWith('--http2'),
    defaults: {
      onReceipt(receipt) {
        const next = waiting.shift()
        if (next === undefined) told.push(receipt)
        else next(receipt)
      }
    }
  })
  const receipt = async () => told.shift() ?? (await new Promise<Receipt>((resolve) => waiting.push(resolve)))
  return { app, url, log, receipt }
}

/** What takes the copies of all requests. */
const shared: Record<string, () => Writable> = {
  'a sink': () => new Writable({ write: (_chunk, _encoding, done) => done() }),
  'a stream that others read': () => new PassThrough().resume()
}

const intoShared: Record<string, (all: Writable) => Hook> = {
  'a copy behind a stage that others watch': (all) => (payload) => {
    const stage = new PassThrough()
    finished(stage, () => {})
    payload.pipe(stage).pipe(all, { end: false })
    return stage
  },
  'a copy beside an iteration that is piped on': (all) => (payload) => {
    payload.pipe(all, { end: false })
    return Readable.from(payload)
      .on('error', () => {})
      .pipe(new PassThrough())
  },

  'a copy': (all) => (payload) => {
    payload.pipe(all, { end: false })
    return payload
  },
  'a copy beside a stage': (all) => (payload) => {
    payload.pipe(all, { end: false })
    return payload.pipe(new PassThrough())
  },
  'a copy behind a stage': (all) => (payload) => {
    const stage = payload.pipe(new PassThrough())
    stage.pipe(all, { end: false })
    return stage
  },
  'a copy that comes late': (all) => async (payload) => {
    await setTimeout(40)
    payload.pipe(all, { end: false })
    return payload
  },
  'a copy behind a stage that comes late': (all) => async (payload) => {
    const stage = payload.pipe(new PassThrough())
    await setTimeout(40)
    stage.pipe(all, { end: false })
    return stage
  }
}

function listenersOf(stream: Writable): Record<string, number> {
  return Object.fromEntries(stream.eventNames().map((name) => [String(name), stream.listenerCount(name)]))
}

for (const [kind, create] of Object.entries(shared)) {
  for (const [name, hookOf] of Object.entries(intoShared)) {
    t.test(`${kind} for all requests outlives the exports that ${name} is made of`, async (t) => {
      const all = create()
      const { url, receipt } = await serveWith(t, hookOf(all))
      const before = listenersOf(all)
      const warnings: Error[] = []
      const onWarning = (warning: Error) => warnings.push(warning)
      process.on('warning', onWarning)
      t.teardown(() => process.off('warning', onWarning))
      // Of which Node's own pipes have one listener each.
      const many = Array.from({ length: 9 }, () => curl(`${url}/late`))
      await Promise.all(many)
      for (const _one of many) await receipt()
      for (const path of ['early', 'late', 'limit']) {
        t.not((await curl('--fail', `${url}/${path}`)).code, 0, path)
        t.not((await receipt()).status, 'complete')
      }
      await curl('--max-time', '0.2', `${url}/endless`)
      t.match(await receipt(), { status: 'client_gone' })
      for (let n = 0; n < 3; n++) {
        t.equal((await curl(`${url}/whole`)).body, whole)
        t.match(await receipt(), { status: 'complete' })
      }
      t.notOk(all.destroyed)
      await new Promise(setImmediate)
      // Those of a stage that has been closed are Node's, and stay without the plugin, too.
      if (name.includes('behind')) return
      t.same(listenersOf(all), before, 'nothing is left on it')
      t.same(warnings, [])
    })
  }
}

const failing = (): Writable =>
  new Writable({ write: (_chunk, _encoding, done) => done(new Error('the disk is full')) })

const failingCopies: Record<string, Hook> = {
  'beside the body': (payload) => {
    payload.pipe(failing())
    return payload
  },
  'beside a stage': (payload) => {
    payload.pipe(failing())
    return payload.pipe(new PassThrough())
  },
  'of a hook that takes its time': async (payload) => {
    payload.pipe(createWriteStream('/nowhere/at/all'))
    const stage = payload.pipe(new PassThrough())
    await setTimeout(50)
    return stage
  }
}

for (const [name, hook] of Object.entries(failingCopies)) {
  t.test(`a reply goes on when a copy ${name} fails`, async (t) => {
    const { url, log, receipt } = await serveWith(t, hook)
    t.equal((await curl(`${url}/whole`)).body, whole)
    const { id, status } = await receipt()
    t.equal(status, 'complete')
    const line = await log.find(/what a hook has piped a body into has failed/)
    t.match(line, { level: 40, err: { message: /the disk is full|ENOENT/ }, export: { id } })
  })
}

t.test('a copy that cannot be destroyed is told', async (t) => {
  const { opened: told, open } = gate<unknown>()
  const { url } = await serveWith(t, (payload) => {
    const copy = Object.assign(new Stream(), { writable: true, write: () => true, end: () => {} })
    payload.pipe(copy.on('error', open) as unknown as Writable)
    return payload
  })
  t.not((await curl(`${url}/late`)).code, 0)
  t.match(await told, { code: 'LATE' })
})

t.test('a copy that is taken off, and put on again, is still told', async (t) => {
  const copy = new PassThrough().resume()
  const { opened: told, open } = gate<unknown>()
  copy.on('error', open)
  const { url } = await serveWith(t, (payload) => {
    payload.pipe(copy)
    payload.unpipe(copy)
    payload.pipe(copy)
    return payload
  })
  t.not((await curl(`${url}/late`)).code, 0)
  t.match(await told, { code: 'LATE' })
})

t.test('a copy that a hook takes no more of is nothing to tell of', async (t) => {
  const { url, log, receipt } = await serveWith(t, (payload) => {
    const sniffer: Writable = new Writable({
      write(_chunk, _encoding, done) {
        payload.unpipe(sniffer)
        sniffer.destroy()
        payload.resume()
        done()
      }
    })
    payload.pipe(sniffer)
    return payload
  })
  t.equal((await curl(`${url}/whole`)).body, whole)
  t.match(await receipt(), { status: 'complete' })
  t.notOk(log.lines.some(({ msg }) => /piped/.test(msg)))
})

for (const version of versions) {
  t.test(`a stage that fails on the way to the reply breaks it, ${version}`, async (t) => {
    const { url, receipt } = await serveWith(
      t,
      (payload) => {
        const stage = new Transform({
          transform(chunk, _encoding, done) {
            this.push(chunk)
            setImmediate(done, Object.assign(new Error('the stage is full'), { code: 'STAGE' }))
          }
        })
        return payload.pipe(stage).pipe(new PassThrough())
      },
      version
    )
    t.not((await curl('--max-time', '5', version, `${url}/whole`)).code, 0)
    t.match(await receipt(), { status: 'source_failed', errorCode: 'STAGE' })
  })
}

async function* upper(payload: Readable): AsyncGenerator<string> {
  for await (const chunk of payload) yield String(chunk).toUpperCase()
}

/** Streams without a listener to 'error', which ends the process. */
const ofAll = new PassThrough().resume()

const unlistened: Record<string, Hook> = {
  'an iteration beside a copy for all': (payload) => {
    payload.pipe(ofAll, { end: false })
    return Readable.from(upper(payload)).pipe(new PassThrough())
  },
  'a generator': (payload) => Readable.from(upper(payload)).pipe(new PassThrough()),
  map: (payload) => payload.map((chunk) => chunk).pipe(new PassThrough()),
  wrap: (payload) => new Readable().wrap(payload).pipe(new PassThrough()),
  'streams of the web': (payload) =>
    Readable.fromWeb(Readable.toWeb(payload) as Parameters<typeof Readable.fromWeb>[0]).pipe(
      new PassThrough()
    )
}

for (const [name, hook] of Object.entries(unlistened)) {
  t.test(`a client that leaves ends no process where a hook pipes on what ${name} makes`, async (t) => {
    const { app, url, receipt } = await serveWith(t, hook)
    await curl('--max-time', '0.2', `${url}/endless`)
    t.match(await receipt(), { status: 'client_gone' })
    const ended = curl(`${url}/endless`)
    await setTimeout(50)
    await app.close()
    t.not((await ended).code, 0)
    t.match(await receipt(), { status: 'server_closing' })
  })
}

t.test('a copy of a pipeline is told when a client leaves', async (t) => {
  const { opened: told, open } = gate<unknown>()
  const { url } = await serveWith(t, (payload) => {
    pipeline(payload, new Writable({ write: (_chunk, _encoding, done) => done() }), open)
    return payload.pipe(new PassThrough())
  })
  await curl('--max-time', '0.2', `${url}/endless`)
  t.match(await told, { code: 'CSV_EXPORT_CLIENT_GONE' })
})

/** As streams of readable-stream before version 4. */
class EndsWhenDestroyed extends PassThrough {
  override _destroy(_error: Error | null, callback: (error?: Error | null) => void): void {
    this.push(null)
    callback()
  }
}

const oldStages: Record<string, Hook> = {
  'at once': (payload) => payload.pipe(new EndsWhenDestroyed()),
  'behind another one': (payload) => payload.pipe(new PassThrough()).pipe(new EndsWhenDestroyed()),
  'of a hook that takes its time': async (payload) => {
    const stage = payload.pipe(new EndsWhenDestroyed())
    await setTimeout(60)
    return stage
  },
  'that cannot be given another pipe()': async (payload) => {
    const stage = new PassThrough()
    Object.defineProperty(stage, 'pipe', { value: stage.pipe })
    payload.pipe(stage)
    await setTimeout(60)
    return stage
  }
}

for (const [name, hook] of Object.entries(oldStages)) {
  for (const version of versions) {
    t.test(`an early error behind a stage that ends when it is destroyed, ${name}, ${version}`, async (t) => {
      const { url, receipt } = await serveWith(t, hook, version)
      for (let n = 0; n < 2; n++) {
        const { body } = await curl('--max-time', '5', version, `${url}/early`)
        t.match(JSON.parse(body), { statusCode: 500, code: 'EARLY' })
        t.match(await receipt(), { status: 'source_failed', errorCode: 'EARLY' })
      }
    })
  }
}

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
      t.not((await curl('--max-time', '5', version, `${url}/endless`)).code, 0)
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

t.test('a hook that pipes announces trailers with commas between', async (t) => {
  const { url } = await serveWith(t, (payload) => payload.pipe(new PassThrough()))
  const { body } = await curl('-i', '--raw', '-H', 'TE: trailers', '-H', 'Connection: TE', `${url}/whole`)
  t.match(body, /^trailer: export-rows, repr-digest\r$/im)
})

t.test('who injects, and gives up, has left', async (t) => {
  const { app, receipt } = await serveWith(t, (payload) => payload)
  const controller = new AbortController()
  const injected = app.inject({ url: '/endless', signal: controller.signal })
  setTimeout(20).then(() => controller.abort())
  await t.rejects(injected)
  t.match(await receipt(), { status: 'client_gone' })
})

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

t.test('a text that a hook makes announces trailers with commas between, too', async (t) => {
  const { url } = await serveWith(t, (payload) => collected(payload))
  const { body } = await curl('-i', '-H', 'TE: trailers', '-H', 'Connection: TE', `${url}/whole`)
  t.match(body, /^trailer: export-rows, repr-digest\r$/im)
})
