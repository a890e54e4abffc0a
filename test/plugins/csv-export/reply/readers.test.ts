import { once } from 'node:events'
import { connect } from 'node:net'
import { finished, PassThrough, type Readable, Writable } from 'node:stream'
import { pipeline, finished as whenFinished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { CSV_EXPORT_BODY_DESTROYED } from '../../../../plugins/csv-export/errors.ts'
import type { SourceInput } from '../../../../plugins/csv-export/index.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { skipBefore } from '../../../programs.ts'

const skip = skipBefore('5.12.8', 'a handlerTimeout and a signal of the request')

// Hooks that read the payload, to keep it or to count it: none may take a part for the whole, or nothing for an empty file.

function onExports(
  app: FastifyInstance,
  hook: (payload: Readable, aborted: Promise<unknown>) => unknown
): void {
  app.addHook('onSend', async (request, _reply, payload) => {
    if (typeof payload === 'string') return payload
    const { promise: aborted, resolve } = Promise.withResolvers<void>()
    request.signal.addEventListener('abort', () => setImmediate(resolve))
    return hook(payload as Readable, aborted)
  })
}

const readings: Record<string, (payload: Readable) => Promise<unknown>> = {
  iterates: (payload) => payload.toArray(),
  pipes: (payload) => pipeline(payload, new PassThrough().resume()),
  'pipes on': (payload) => whenFinished(payload.pipe(new PassThrough().resume()))
}

/** What a hook gets that reads only once the export has ended. */
async function readTooLate(
  t: Test,
  read: (payload: Readable) => Promise<unknown>,
  handlerTimeout: number
): Promise<{ url: string; got: Promise<unknown>; waits: Promise<void> }> {
  const { opened: got, open } = gate<unknown>()
  const { opened: waits, open: wait } = gate()
  const { url } = await serve(
    t,
    (app) => {
      onExports(app, async (payload, aborted) => {
        wait()
        await aborted
        await read(payload).then(open, open)
        return 'nothing'
      })
      app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
    },
    { server: { handlerTimeout } }
  )
  return { url, got, waits }
}

for (const [name, read] of Object.entries(readings)) {
  t.test(`a hook that ${name} after a handlerTimeout is told of it`, { skip }, async (t) => {
    const { url, got } = await readTooLate(t, read, 50)
    t.match(JSON.parse((await curl(url)).body), { code: 'FST_ERR_HANDLER_TIMEOUT' })
    t.match(await got, { code: 'FST_ERR_HANDLER_TIMEOUT' })
  })

  t.test(`a hook that ${name} after its client has left is told of it`, { skip }, async (t) => {
    const { url, got, waits } = await readTooLate(t, read, 60_000)
    const client = connect(Number(new URL(url).port), '127.0.0.1')
    client.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await waits
    client.destroy()
    t.match(await got, { code: 'CSV_EXPORT_CLIENT_GONE' })
  })
}

t.test('a payload that an error reply replaces is closed when that has been sent', { skip }, async (t) => {
  const { opened: closed, open } = gate<unknown>()
  const { url, log } = await serve(
    t,
    (app) => {
      onExports(app, (payload) => {
        finished(payload, { writable: false }, open)
        return payload
      })
      app.get('/', (_request, reply) => reply.csv(({ signal }) => once(signal, 'abort') as Promise<never>))
    },
    { server: { handlerTimeout: 50 } }
  )
  t.match(JSON.parse((await curl(url)).body), { code: 'FST_ERR_HANDLER_TIMEOUT' })
  t.match(await closed, { code: 'ERR_STREAM_PREMATURE_CLOSE' })
  t.equal(log.lines.filter(({ err }) => err !== undefined).length, 1, 'and no second error is logged')
})

t.test('a payload that a hook replaces is destroyed when the reply ends', { skip }, async (t) => {
  const { opened: closed, open } = gate<unknown>()
  const { url } = await serve(t, (app) => {
    onExports(app, (payload) => {
      finished(payload, { writable: false }, open)
      return 'another'
    })
    app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
  })
  t.match(await curl(url), { code: 0, body: 'another' })
  t.match(await closed, { code: 'CSV_EXPORT_BODY_DESTROYED' })
})

for (const version of ['--http1.1', '--http2-prior-knowledge']) {
  t.test(`a hook that listens to a broken export is told of it, ${version}`, { skip }, async (t) => {
    const events: string[] = []
    const { opened: closed, open } = gate()
    const { url } = await serve(
      t,
      (app) => {
        onExports(app, (payload) =>
          payload
            .on('data', (chunk) => events.push(String(chunk)))
            .on('end', () => events.push('end'))
            .on('error', ({ message }) => events.push(message))
            .on('close', open)
        )
        app.get('/', (_request, reply) =>
          reply.csv(async function* () {
            yield { a: 1 }
            await new Promise(setImmediate)
            await new Promise(setImmediate)
            throw new Error('late')
          })
        )
      },
      { http2: version.startsWith('--http2') }
    )
    t.not((await curl(version, url)).code, 0)
    await closed
    t.same(events, ['a\n1\n', 'late'])
  })
}

const lateReadings: Record<string, (payload: Readable, told: (what: string) => void) => unknown> = {
  pipes: (payload, told) => {
    const copy = new PassThrough().resume().on('finish', () => told('finish'))
    payload.pipe(copy.on('error', ({ message }) => told(message)))
  },
  listens: (payload, told) =>
    payload
      .on('data', () => told('data'))
      .on('end', () => told('end'))
      .on('error', ({ message }) => told(message)),
  iterates: (payload, told) =>
    payload.toArray().then(
      () => told('end'),
      ({ message }) => told(message)
    )
}
const refused = new CSV_EXPORT_BODY_DESTROYED()

for (const [name, read] of Object.entries(lateReadings)) {
  for (const version of ['--http1.1', '--http2-prior-knowledge']) {
    t.test(
      `a hook that ${name} after the reply has begun takes no empty file, ${version}`,
      { skip },
      async (t) => {
        const { opened: body, open: give } = gate<Readable>()
        const { opened: told, open: tell } = gate<string>()
        const { url } = await serve(
          t,
          (app) => {
            onExports(app, (payload) => {
              give(payload)
              return payload
            })
            app.get('/', (_request, reply) =>
              reply.csv(async function* ({ signal }) {
                yield { a: 1 }
                await new Promise(setImmediate)
                read(await body, tell)
                await sleep(100, undefined, { signal }).catch(() => {})
              })
            )
          },
          { http2: version.startsWith('--http2') }
        )
        t.not((await curl(version, url)).code, 0)
        t.equal(await told, refused.message)
      }
    )
  }
}

const ended: Record<string, { rows: SourceInput<{ a: number }>; code: number; told: string }> = {
  'all of it is written': { rows: [{ a: 1 }], code: 0, told: refused.message },
  'it has broken': {
    rows: async function* () {
      yield { a: 1 }
      await new Promise(setImmediate)
      await new Promise(setImmediate)
      throw new Error('late')
    },
    code: 56,
    told: 'late'
  }
}

for (const [when, { rows, code, told }] of Object.entries(ended)) {
  t.test(`what a hook pipes an export into when ${when} fails, and nothing else`, { skip }, async (t) => {
    const { opened: got, open: tell } = gate<string>()
    const { url } = await serve(t, (app) => {
      onExports(app, (payload) => payload.on('close', () => lateReadings.pipes?.(payload, tell)))
      app.get('/', (_request, reply) => reply.csv(rows))
    })
    t.match(await curl(url), { code, body: 'a\n1\n' })
    t.equal(await got, told)
  })
}

const failures: Record<string, { rows: SourceInput<{ a: number }>; told: string }> = {
  'that is over before its first byte': {
    rows: () => Promise.reject(new Error('early')),
    told: 'early'
  },
  'that breaks': {
    rows: async function* () {
      yield { a: 1 }
      await new Promise(setImmediate)
      await new Promise(setImmediate)
      throw new Error('late')
    },
    told: 'late'
  },
  'that an error reply replaces': {
    rows: ({ signal }) => once(signal, 'abort') as Promise<never>,
    told: "Request timed out after 200 ms on route '/'"
  }
}

const cases = Object.entries(failures).flatMap(([what, failure]) =>
  [false, true].map((hasStage) => ({ what, hasStage, ...failure }))
)

for (const { what, hasStage, rows, told } of cases) {
  t.test(
    `what a hook pipes an export into besides${hasStage ? ' a stage' : ''}, ${what}, is told of it`,
    { skip },
    async (t) => {
      const events: string[] = []
      const { opened: closed, open } = gate()
      const { url } = await serve(
        t,
        (app) => {
          onExports(app, (payload) => {
            const copy = new Writable({ write: (_chunk, _encoding, callback) => callback() })
            copy.on('finish', () => events.push('finish')).on('error', ({ message }) => events.push(message))
            payload.pipe(copy.on('close', open))
            return hasStage ? payload.pipe(new PassThrough()) : payload
          })
          app.get('/', (_request, reply) => reply.csv(rows))
        },
        { server: { handlerTimeout: 200 } }
      )
      await curl(url)
      await closed
      t.same(events, [told])
    }
  )
}

t.test(
  'a stage that nobody watches yet, of an export that has ended, ends no process',
  { skip },
  async (t) => {
    const { opened: waits, open: wait } = gate()
    const { app, url } = await serve(t, (app) => {
      onExports(app, async (payload) => {
        const failed = new Promise((resolve) => payload.on('error', resolve))
        wait()
        await failed
        const stage = payload.pipe(new PassThrough())
        await new Promise(setImmediate)
        return stage
      })
      app.get('/', (_request, reply) => reply.csv([{ a: 1 }]))
    })
    const got = curl(url)
    await waits
    await app.close()
    t.match(JSON.parse((await got).body), { code: 'CSV_EXPORT_SERVER_CLOSING' })
  }
)
