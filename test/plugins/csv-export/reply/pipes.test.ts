import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { compose, PassThrough, pipeline, Readable, Transform, Writable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply } from 'fastify'
import t, { type Test } from 'tap'
import type { Receipt } from '../../../../plugins/csv-export/index.ts'
import { curl, gate, type Log, serve } from '../../../helper.ts'

// What hooks pipe a body into: a way to the reply, copies beside it, and what is there for all requests.

type Hook = (payload: Readable, reply: FastifyReply) => unknown

const row = { text: 'some text of a row' }
const whole = `text\n${'some text of a row\n'.repeat(5_000)}`
const versions = ['--http1.0', '--http1.1', '--http2-prior-knowledge']

function addRoutes(app: FastifyInstance, hook: Hook): void {
  app.addHook('onSend', async (_request, reply, payload) =>
    payload instanceof Readable ? hook(payload, reply) : payload
  )
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
  }
}

for (const [name, hook] of Object.entries(failingCopies)) {
  t.test(`a reply goes on when a copy ${name} fails`, async (t) => {
    const { url, log, receipt } = await serveWith(t, hook)
    t.equal((await curl(`${url}/whole`)).body, whole)
    const { id, status } = await receipt()
    t.equal(status, 'complete')
    const line = await log.find(/what a hook has piped a body into has failed/)
    t.match(line, { level: 40, err: { message: 'the disk is full' }, export: { id } })
  })
}

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
const unlistened: Record<string, Hook> = {
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

/** Hooks that keep the file, and say so. */
const keeping: Record<string, (file: string) => Hook> = {
  'at once': (file) => (payload, reply) => {
    payload.pipe(createWriteStream(file))
    reply.code(202).type('application/json')
    return '{"kept":"soon"}'
  },
  'after a while': (file) => async (payload, reply) => {
    payload.pipe(createWriteStream(file))
    await setTimeout(20)
    reply.code(202).type('application/json')
    return '{"kept":"soon"}'
  },
  'without a word': (file) => (payload, reply) => {
    payload.pipe(createWriteStream(file))
    reply.code(204)
    return null
  },
  'before it reads': (file) => (payload, reply) => {
    payload.pipe(createWriteStream(file))
    payload.pause()
    setTimeout(50).then(() => payload.resume())
    reply.code(202).type('application/json')
    return '{"kept":"soon"}'
  },
  'by an address': (file) => async (payload, reply) => {
    pipeline(payload, compose(new PassThrough()), createWriteStream(file), () => {})
    reply.code(303).header('location', '/kept')
    return ''
  }
}

for (const [name, hookOf] of Object.entries(keeping)) {
  for (const version of versions) {
    t.test(`a hook keeps the file, and says so ${name}, ${version}`, async (t) => {
      const file = join(t.testdir(), 'kept.csv')
      const { url, receipt } = await serveWith(t, hookOf(file), version)
      const { code, body } = await curl('-w', '%{http_code}', version, `${url}/whole`)
      t.equal(code, 0)
      t.match(body, /^(\{"kept":"soon"\}202|204|303)$/)
      t.match(await receipt(), { status: 'complete', rows: 5_000 })
      await setTimeout(20)
      t.equal(await readFile(file, 'utf8'), whole)
    })
  }
}

t.test('what a hook keeps ends with the server, and with what keeps it', async (t) => {
  const events: string[] = []
  const keep = (): Writable =>
    new Writable({
      write: (chunk, _encoding, done) => done(/FULL/.test(chunk) ? new Error('the disk is full') : null)
    }).on('error', ({ message }) => events.push(message))
  const { app, url, receipt } = await serveWith(t, (payload, reply) => {
    payload.pipe(keep())
    reply.code(202).type('application/json')
    return '{"kept":"soon"}'
  })
  t.equal((await curl(`${url}/late`)).body, '{"kept":"soon"}')
  t.match(await receipt(), { status: 'source_failed', errorCode: 'LATE' })
  t.equal((await curl(`${url}/endless`)).body, '{"kept":"soon"}')
  t.equal(app.csvExports.running().length, 1)
  await app.close()
  t.match(await receipt(), { status: 'server_closing' })
  t.equal(events[0], 'late')
  t.match(events[1], /server/)
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
