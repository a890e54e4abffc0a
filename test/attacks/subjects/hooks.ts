import { once } from 'node:events'
import { compose, Duplex, PassThrough, pipeline, Readable, Transform, Writable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { pipeline as pipelined } from 'node:stream/promises'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { PluginOptions } from '../../../plugins/csv-export/index.ts'
import { EndsWhenDestroyed } from '../../ends-when-destroyed.ts'
import { say } from './say.ts'

const tell = (request: FastifyRequest, what: string, value?: unknown): void =>
  say({ id: String(request.headers['x-export']), what, value })

/** Counts what comes, and says it at the end. */
function audit(request: FastifyRequest, pause = 0): Writable {
  let size = 0
  return new Writable({
    highWaterMark: 1_000,
    async write(chunk, _encoding, done) {
      size += chunk.length
      if (pause !== 0) await setTimeout(pause)
      done()
    },
    final(done) {
      tell(request, 'audited', size)
      done()
    }
  })
}

const pass = (): Transform => new Transform({ transform: (chunk, _encoding, done) => done(null, chunk) })

/** What takes the copies of all requests. */
const ofAll = new PassThrough({ highWaterMark: 1_000 }).setMaxListeners(0).resume()

type Payload = Readable

/** What hooks of users and of other packages do with a payload. */
export const hooks: Record<string, (payload: Payload, request: FastifyRequest) => unknown> = {
  pipe: (payload) => payload.pipe(pass()),
  'two stages of pipe': (payload) => payload.pipe(pass()).pipe(pass()),
  'three stages of pipe': (payload) => payload.pipe(pass()).pipe(pass()).pipe(pass()),
  pipeline: (payload) => pipeline(payload, pass(), () => {}),
  'pipeline of two stages': (payload) => pipeline(payload, pass(), pass(), () => {}),
  'pipeline of promises': (payload) => {
    const last = pass()
    pipelined(payload, last).catch(() => {})
    return last
  },
  'pipe into a pipeline': (payload) => pipeline(payload.pipe(pass()), pass(), () => {}),
  'compose, a method': (payload) => payload.compose(pass()),
  compose: (payload) => compose(payload, pass()),
  'compose of two': (payload) => payload.pipe(compose(pass(), pass())),
  'a tee': (payload, request) => {
    payload.pipe(audit(request))
    return payload
  },
  'a slow tee': (payload, request) => {
    payload.pipe(audit(request, 1))
    return payload
  },
  'two tees': (payload, request) => {
    payload.pipe(audit(request))
    payload.pipe(audit(request))
    return payload
  },
  'a tee beside a stage': (payload, request) => {
    payload.pipe(audit(request))
    return payload.pipe(pass())
  },
  'a tee behind a stage': (payload, request) => {
    const stage = payload.pipe(pass())
    stage.pipe(audit(request))
    return stage
  },
  'a copy for all requests': (payload) => {
    payload.pipe(ofAll, { end: false })
    return payload.pipe(pass())
  },
  'a copy for all requests behind a stage': (payload) => {
    const stage = payload.pipe(pass())
    stage.pipe(ofAll, { end: false })
    return stage
  },
  'a stage that ends when it is destroyed': (payload) => payload.pipe(new EndsWhenDestroyed()),
  "a stage fed by 'data'": (payload) => {
    const stage = new PassThrough()
    payload.on('data', (chunk) => stage.write(chunk)).on('end', () => stage.end())
    return stage
  },
  'a stage behind an iteration': (payload) =>
    Readable.from(payload)
      .on('error', () => {})
      .pipe(pass()),
  "a tee of 'data'": (payload, request) => {
    const counter = audit(request)
    payload.on('data', (chunk) => counter.write(chunk)).on('end', () => counter.end())
    return payload
  },
  "a tee of 'data', paused": (payload, request) => {
    const counter = audit(request)
    payload.on('data', (chunk) => counter.write(chunk)).on('end', () => counter.end())
    return payload.pause()
  },
  toWeb: (payload) => Readable.toWeb(payload),
  'a Response of toWeb': (payload) => new Response(Readable.toWeb(payload) as ReadableStream),
  pipeThrough: (payload) => (Readable.toWeb(payload) as ReadableStream).pipeThrough(new TransformStream()),
  'tee of toWeb': (payload) => {
    const [one, other] = (Readable.toWeb(payload) as ReadableStream).tee()
    one.pipeTo(new WritableStream()).catch(() => {})
    return other
  },
  'fromWeb of toWeb': (payload) => Readable.fromWeb(Readable.toWeb(payload)),
  wrap: (payload) => new Readable().wrap(payload),
  'Readable.from': (payload) => Readable.from(payload),
  'Duplex.from': (payload) => Duplex.from(payload),
  'an async generator': (payload) =>
    Readable.from(
      (async function* () {
        for await (const chunk of payload) yield chunk
      })()
    ),
  map: (payload) => payload.map((chunk) => chunk),
  'for await': async (payload) => {
    let all = ''
    for await (const chunk of payload) all += chunk
    return all
  },
  'text of consumers': (payload) => text(payload),
  'buffer of consumers': (payload) => buffer(payload),
  toArray: async (payload) => Buffer.concat(await payload.toArray()),
  "'data'": async (payload) => {
    let all = ''
    payload.on('data', (chunk) => {
      all += chunk
    })
    await once(payload, 'end')
    return all
  },
  "'data', with an encoding": async (payload) => {
    let all = ''
    payload.setEncoding('utf8').on('data', (chunk) => {
      all += chunk
    })
    await once(payload, 'end')
    return all
  },
  "'readable'": async (payload) => {
    let all = ''
    payload.on('readable', () => {
      for (let chunk = payload.read(); chunk !== null; chunk = payload.read()) all += chunk
    })
    await once(payload, 'end')
    return all
  },
  'its iterator': async (payload) => {
    const iterator = payload.iterator()
    let all = ''
    for (let step = await iterator.next(); !step.done; step = await iterator.next()) all += step.value
    return all
  },
  'a promise that waits': async (payload) => {
    await setTimeout(20)
    return payload
  },
  'a pipe that waits': async (payload) => {
    const stage = payload.pipe(pass())
    await setTimeout(20)
    return stage
  },
  'a pipe after a wait': (payload) => {
    const stage = new PassThrough()
    setTimeout(20).then(() => payload.pipe(stage))
    return stage
  }
}

interface Query {
  hook: string
}

export const defaults: PluginOptions = { stallTimeout: 1_000 }

export default function (app: FastifyInstance): void {
  app.addHook<Readable, { Querystring: Query }>('onSend', async (request, _reply, payload) => {
    const hook = hooks[request.query.hook]
    // An error reply passes here too, as text.
    return hook === undefined || !(payload instanceof Readable) ? payload : hook(payload, request)
  })
  const row = (id: number) => ({ id, text: 'some text of a row' })
  app.get('/whole', (_request, reply) =>
    reply.csv(async function* () {
      yield row(0)
      await setTimeout(10)
      for (let id = 1; id < 10_000; id++) yield row(id)
    })
  )
  app.get('/late', (_request, reply) =>
    reply.csv(async function* () {
      for (let id = 0; id < 5_000; id++) yield row(id)
      await setTimeout(50)
      throw Object.assign(new Error('late'), { code: 'LATE' })
    })
  )
  app.get('/early', (_request, reply) =>
    reply.csv(async function* () {
      await setTimeout(10)
      if (reply.sent) yield row(0)
      throw Object.assign(new Error('early'), { code: 'EARLY' })
    })
  )
  app.get('/at-once', (_request, reply) =>
    reply.csv(() => {
      throw Object.assign(new Error('early'), { code: 'EARLY' })
    })
  )
  app.get('/slow', (_request, reply) =>
    reply.csv(
      async function* ({ signal }) {
        if (!signal.aborted) await once(signal, 'abort')
        yield row(0)
      },
      { maxDuration: 50 }
    )
  )
  app.get('/gone', (request, reply) =>
    reply.csv(async function* ({ signal }) {
      yield row(0)
      await setTimeout(10)
      tell(request, 'running')
      if (!signal.aborted) await once(signal, 'abort')
    })
  )
  app.get('/ended', (_request, reply) =>
    reply.csv(async function* ({ signal }) {
      yield row(0)
      await setTimeout(20)
      reply.raw.end()
      if (!signal.aborted) await once(signal, 'abort')
    })
  )
  app.get('/close', (request, reply) => {
    setImmediate(() => app.close().then(() => tell(request, 'closed')))
    return reply.csv(async function* ({ signal }) {
      if (!signal.aborted) await once(signal, 'abort')
      yield row(0)
    })
  })
}
