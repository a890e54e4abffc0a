import { EventEmitter, once } from 'node:events'
import { createServer, get as httpGet } from 'node:http'
import type { AddressInfo } from 'node:net'
import { compose, Readable, Transform } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type CsvOptions, type SourceInput, toCsv } from '../../plugins/csv-export/index.ts'
import { gate } from '../helper.ts'
import { get } from './attack.ts'
import { becomes, watch } from './watch.ts'

// On ecf8ce8, 245 of 601 assertions fail: `return()` is not called again.

/** What is called of a source, and the code of the error that it is called with. */
type Called = (name: string, reason?: unknown) => void

const row = { id: 1 }

async function turns(count: number): Promise<void> {
  for (let passed = 0; passed < count; passed++) await turn()
}

/** One whose second `next()` answers when it is told to. */
class Steps {
  readonly asked = gate()
  #reader: PromiseWithResolvers<IteratorResult<object>> | undefined
  count = 0

  next(): Promise<IteratorResult<object>> {
    if (this.count++ === 0) return Promise.resolve({ done: false, value: row })
    this.#reader = Promise.withResolvers()
    this.asked.open()
    return this.#reader.promise
  }

  get isPending(): boolean {
    return this.#reader !== undefined
  }

  settle(how: string): void {
    const reader = this.#reader
    this.#reader = undefined
    if (how === 'a row') reader?.resolve({ done: false, value: row })
    else if (how === 'the end') reader?.resolve({ done: true, value: undefined })
    else reader?.reject(new Error('late'))
  }
}

/** Iterators whose `return()` does nothing while a `next()` is pending. */
const deaf: Record<string, (called: Called, steps: Steps) => AsyncIterable<object>> = {
  // As that of postgres.js, whose cursor then stays open.
  'is ignored': (called, steps) => ({
    [Symbol.asyncIterator]: () => ({
      next: () => steps.next(),
      async return() {
        called(steps.isPending ? 'ignored' : 'closed')
        return { done: true, value: undefined }
      }
    })
  }),
  throws: (called, steps) => ({
    [Symbol.asyncIterator]: () => ({
      next: () => steps.next(),
      return() {
        called(steps.isPending ? 'thrown' : 'closed')
        if (steps.isPending) throw new Error('busy')
        return Promise.resolve({ done: true as const, value: undefined })
      }
    })
  }),
  rejects: (called, steps) => ({
    [Symbol.asyncIterator]: () => ({
      next: () => steps.next(),
      return() {
        called(steps.isPending ? 'rejected' : 'closed')
        return steps.isPending
          ? Promise.reject(new Error('busy'))
          : Promise.resolve({ done: true as const, value: undefined })
      }
    })
  })
}

/** How an export ends while its source gives nothing. */
const endings: Record<string, { options?: CsvOptions<any>; leaves?: true; closes?: true }> = {
  'the client leaves': { leaves: true },
  sourceTimeout: { options: { sourceTimeout: 50 } },
  maxDuration: { options: { maxDuration: 50 } },
  'the server closes': { closes: true }
}

/** Serves one export, and ends it as it is said. */
async function endExport(
  t: Test,
  source: SourceInput<any>,
  asked: Promise<unknown> | undefined,
  { options = {}, leaves, closes }: (typeof endings)[string] = {}
) {
  const arrived = gate()
  const server = await watch(t, (app) => {
    app.addHook('onSend', async () => arrived.open())
    app.get('/', (_request, reply) => reply.csv(source, options))
  })
  const request = httpGet(server.url, { agent: false }, (response) => response.on('error', () => {}).resume())
  request.on('error', () => {})
  await (asked ?? arrived.opened.then(() => turns(10)))
  if (leaves) request.destroy()
  if (closes) await server.app.close()
  await server.receipt()
  return server
}

t.test('an iterator that does nothing of return() while next() is pending', async (t) => {
  for (const [name, iterator] of Object.entries(deaf)) {
    for (const [ended, ending] of Object.entries(endings)) {
      for (const settled of ['a row', 'the end', 'an error']) {
        t.test(`${name}, ${ended}, then ${settled} comes`, async (t) => {
          const calls: string[] = []
          const steps = new Steps()
          const { receipts } = await endExport(
            t,
            () => iterator((call) => calls.push(call), steps),
            steps.asked.opened,
            ending
          )
          t.equal(calls.length, 1, 'it is told at once')
          steps.settle(settled)
          // One that has ended, or failed, has nothing to close.
          if (settled !== 'a row') await turns(5)
          else {
            const closes = await becomes(() => calls.includes('closed'), 300)
            t.ok(closes, 'it is told again when next() has settled')
          }
          t.equal(steps.count, 2, 'no more is asked of it')
          t.equal(receipts.length, 1, 'one receipt')
        })
      }
    }
  }

  t.test('of batches', async (t) => {
    const calls: string[] = []
    const steps = new Steps()
    const source = deaf['is ignored']?.((call) => calls.push(call), steps) as AsyncIterable<object>
    steps.count = 1
    await endExport(t, () => source, steps.asked.opened, { options: { batches: true }, leaves: true })
    steps.settle('a row')
    t.ok(await becomes(() => calls.includes('closed'), 300), 'it is told again when next() has settled')
  })

  t.test('of toCsv()', async (t) => {
    const calls: string[] = []
    const steps = new Steps()
    const chunks = toCsv(
      () => deaf['is ignored']?.((call) => calls.push(call), steps) as AsyncIterable<object>
    )
    chunks.next().catch(() => {})
    await steps.asked.opened
    await chunks.return?.()
    t.strictSame(calls, ['ignored'])
    steps.settle('a row')
    t.ok(await becomes(() => calls.includes('closed'), 300), 'it is told again when next() has settled')
  })

  t.test('a generator is told once, and cleans up once', async (t) => {
    let count = 0
    const asked = gate()
    const next = gate()
    await endExport(
      t,
      async function* () {
        try {
          yield row
          asked.open()
          await next.opened
          yield row
        } finally {
          count++
        }
      },
      asked.opened,
      { leaves: true }
    )
    next.open()
    t.ok(await becomes(() => count > 0))
    await turn()
    t.equal(count, 1)
  })
})

t.test('a generator that ends its export while it runs cleans up', async (t) => {
  for (const kind of ['synchronous', 'asynchronous']) {
    t.test(kind, async (t) => {
      let isClean = false
      function* rows(): Generator<object> {
        try {
          yield row
          chunks.return?.()
          yield row
        } finally {
          isClean = true
        }
      }
      async function* asynchronous() {
        yield* rows()
      }
      const chunks = toCsv(kind === 'synchronous' ? rows : asynchronous)
      t.match(await chunks.next(), { done: true })
      t.ok(await becomes(() => isClean, 300))
    })
  }
})

const silent = () => new Readable({ objectMode: true, read() {} })

/** Streams by what frees them, and whether that knows the reason. */
const streams: Record<string, (called: Called) => Readable> = {
  // As TypeORM's, which releases its connection on 'error' and 'end', not on 'close'.
  "cleans up on 'error' alone": (called) => silent().on('error', (error) => called('error', error)),
  'cleans up in _destroy()': (called) =>
    Object.assign(silent(), {
      _destroy(error: Error | null, done: (error: Error | null) => void) {
        called('_destroy', error)
        done(error)
      }
    }),
  'is the end of a pipe': (called) =>
    silent().pipe(
      new Transform({
        objectMode: true,
        transform: (chunk, _encoding, done) => done(null, chunk),
        destroy(error, done) {
          called('_destroy', error)
          done(error)
        }
      })
    ),
  'throws when it is destroyed': (called) =>
    Object.assign(silent(), {
      destroy(error: Error) {
        called('destroy', error)
        throw new Error('busy')
      }
    }),
  'emits a second error': (called) =>
    silent()
      .on('error', (error) => called('error', error))
      .on('close', function (this: Readable) {
        this.emit('error', new Error('more'))
      }),
  'has an iterator that cannot be told': (called) =>
    Object.assign(silent(), {
      [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }),
      destroy: (error: Error) => called('destroy', error)
    }) as unknown as Readable
}

const codes: Record<string, string> = {
  'the client leaves': 'CSV_EXPORT_CLIENT_GONE',
  sourceTimeout: 'CSV_EXPORT_SOURCE_STALLED',
  maxDuration: 'CSV_EXPORT_MAX_DURATION',
  'the server closes': 'CSV_EXPORT_SERVER_CLOSING'
}

t.test('a stream is destroyed with the reason', async (t) => {
  for (const [name, stream] of Object.entries(streams)) {
    for (const [ended, ending] of Object.entries(endings)) {
      for (const form of ['itself', 'a function']) {
        t.test(`one that ${name}, ${ended}, ${form}`, async (t) => {
          const told: [string, unknown][] = []
          const called: Called = (call, reason) =>
            told.push([call, (reason as { code?: string } | null)?.code])
          const opened = gate()
          const open = () => {
            opened.open()
            return stream(called)
          }
          const asked = form === 'itself' ? undefined : opened.opened
          const { receipts } = await endExport(t, form === 'itself' ? open() : open, asked, ending)
          await becomes(() => told.length > 0, 300)
          t.match(told[0], [String, codes[ended]], 'it is told why')
          t.equal(receipts.length, 1, 'one receipt')
        })
      }
    }
  }

  t.test('also one that gives a row in the turn of its end', async (t) => {
    const told: string[] = []
    const stream = silent().on('error', ({ code }: NodeJS.ErrnoException) => told.push(code as string))
    const source = ({ signal }: { signal: AbortSignal }) => {
      signal.addEventListener('abort', () => process.nextTick(() => stream.push(row)))
      return stream
    }
    await endExport(t, source, undefined, endings.sourceTimeout)
    t.ok(await becomes(() => told.length > 0, 300))
    t.strictSame(told, ['CSV_EXPORT_SOURCE_STALLED'], 'it is told why')
  })

  t.test('as a web stream is cancelled with it', async (t) => {
    const told = gate<unknown>()
    const asked = gate()
    const source = () =>
      new ReadableStream(
        { pull: () => asked.open(), cancel: (reason) => told.open(reason) },
        { highWaterMark: 0 }
      )
    await endExport(t, source, asked.opened, { leaves: true })
    t.match(await told.opened, { code: 'CSV_EXPORT_CLIENT_GONE' }, 'it is told why')
  })

  t.test('also one that was never opened', async (t) => {
    const told: unknown[] = []
    const stream = silent().on('error', (error) => told.push(error))
    const { url } = await watch(t, (app) => app.get('/', (_request, reply) => reply.csv(stream)))
    await fetch(url, { method: 'HEAD' })
    t.ok(await becomes(() => stream.destroyed))
    t.ok(await becomes(() => told.length === 1, 300), "'error' comes")
  })
})

/** Objects of a user's own, whose methods have nothing to do with an export. */
const owns: Record<string, (called: Called) => Iterable<object> | AsyncIterable<object>> = {
  'an order with cancel()': (called) => ({
    *[Symbol.iterator]() {
      yield row
      yield row
    },
    cancel: () => called('cancel')
  }),
  'a user with destroy()': (called) => ({
    *[Symbol.iterator]() {
      yield row
      yield row
    },
    destroy: () => called('destroy')
  }),
  'an asynchronous one with both': (called) => ({
    async *[Symbol.asyncIterator]() {
      yield row
      yield row
    },
    destroy: () => called('destroy'),
    cancel: () => called('cancel')
  }),
  'an emitter with destroy()': (called) =>
    Object.assign(new EventEmitter(), {
      *[Symbol.iterator]() {
        yield row
        yield row
        yield row
      },
      destroy: () => called('destroy')
    }) as unknown as Iterable<object>,
  'an array with cancel()': (called) => Object.assign([row, row], { cancel: () => called('cancel') }),
  'a Set with destroy()': (called) =>
    Object.assign(new Set([row, { id: 2 }]), { destroy: () => called('destroy') })
}

/** What becomes of such an export. */
const fates: Record<
  string,
  { method?: string; headers?: Record<string, string>; options?: CsvOptions<any>; hook?: true }
> = {
  'is whole': {},
  'is not opened, for HEAD': { method: 'HEAD' },
  'is refused for its Range': { headers: { range: 'bytes=5-' } },
  'is refused for its options': { options: { delimiter: 5 } as object },
  'is replaced by a hook': { hook: true },
  'is too large': { options: { maxRows: 1, chunkSize: 1 } }
}

t.test("an object of the user's own is iterated, and left alone", async (t) => {
  for (const [name, own] of Object.entries(owns)) {
    for (const [fate, { method = 'GET', headers = {}, options = {}, hook }] of Object.entries(fates)) {
      for (const form of ['itself', 'a function']) {
        t.test(`${name}, whose export ${fate}, ${form}`, async (t) => {
          const calls: string[] = []
          const source = own((call) => calls.push(call))
          const { url, timers } = await watch(t, (app) => {
            if (hook) app.addHook('onSend', async () => 'other')
            app.get('/', (_request, reply) =>
              reply.csv((form === 'itself' ? source : () => source) as any, options)
            )
          })
          await fetch(url, { method, headers })
            .then((response) => response.text())
            .catch(() => {})
          t.ok(await becomes(() => timers() === 0))
          t.strictSame(calls, [], 'nothing of it is called')
        })
      }
    }
  }
})

t.test('nor is anything called of one that comes when the client has left', async (t) => {
  for (const [name, own] of Object.entries(owns)) {
    t.test(name, async (t) => {
      const calls: string[] = []
      const opened = gate()
      const comes = gate<Iterable<object>>()
      const source = () => {
        opened.open()
        return comes.opened
      }
      const { receipts } = await endExport(t, source, opened.opened, { leaves: true })
      t.match(receipts, [{ status: 'client_gone' }])
      comes.open(own((call) => calls.push(call)) as Iterable<object>)
      await turns(5)
      t.strictSame(calls, [], 'nothing of it is called')
    })
  }
})

/** Rows out of an emitter that lives longer than an export. */
function sharedEmitter(rows: () => Iterable<object> | AsyncIterable<object>) {
  return Object.assign(new EventEmitter(), {
    [Symbol.asyncIterator]: async function* () {
      yield* rows()
    }
  })
}

t.test('a shared emitter gains no listener', async (t) => {
  for (const form of ['itself', 'a function']) {
    for (const fate of ['whole', 'failed', 'refused', 'HEAD', 'left']) {
      t.test(`${form}, ${fate}`, async (t) => {
        const source = sharedEmitter(async function* () {
          yield row
          await turn()
          if (fate === 'failed') throw new Error('late')
          if (fate === 'left') await new Promise(() => {})
        })
        source.on('error', () => {})
        const { url, receipt } = await watch(t, (app) =>
          app.get('/', (_request, reply) =>
            reply.csv(
              (form === 'itself' ? source : () => source) as any,
              fate === 'refused' ? ({ bad: 1 } as object) : {}
            )
          )
        )
        for (let count = 0; count < 12; count++) {
          if (fate === 'left') {
            const request = httpGet(url, { agent: false }).on('error', () => {})
            const [response] = await once(request, 'response')
            response.on('error', () => {})
            request.destroy()
            await receipt(count)
          } else {
            await fetch(url, { method: fate === 'HEAD' ? fate : 'GET' })
              .then((response) => response.text())
              .catch(() => {})
          }
        }
        t.ok(await becomes(() => source.listenerCount('error') === 1, 300), 'as before')
      })
    }
  }
})

t.test('a stream that fails in a turn of its own ends no process', async (t) => {
  for (const when of ['before it is opened', 'while it is read', 'after it has been let go of']) {
    t.test(when, async (t) => {
      const stream = silent()
      // Not by destroy(): one that is destroyed says nothing more.
      const fail = () => stream.emit('error', new Error(when))
      const { url, receipt } = await watch(t, (app) => {
        app.addHook('onSend', async (_request, _reply, payload) => {
          if (when === 'before it is opened') fail()
          return payload
        })
        app.get('/', (_request, reply) => {
          if (when === 'while it is read') setTimeout(fail, 30)
          return reply.csv(stream, { sourceTimeout: 100 })
        })
      })
      await get(url, {}).catch(() => {})
      await receipt()
      if (when === 'after it has been let go of') t.doesNotThrow(fail)
      await turn()
      t.pass('the process lives')
    })
  }
})

t.test('a stream that has failed when its function gives it ends no process', async (t) => {
  const failed = () => silent().destroy(new Error('failed at once'))
  const functions = { 'a function': failed, 'an async function': async () => failed() }
  for (const [name, open] of Object.entries(functions)) {
    t.test(name, async (t) => {
      const { url, receipt } = await watch(t, (app) => {
        app.get('/', (_request, reply) => reply.csv(open))
      })
      t.equal((await get(url, {})).status, 500)
      t.match(await receipt(), { status: 'source_failed' })
      // In a turn of its own, as a script or a queue may call it.
      await new Promise((resolve) => setTimeout(resolve))
      await new Promise((resolve, reject) => {
        setTimeout(() => t.rejects(toCsv(open).next(), { message: 'failed at once' }).then(resolve, reject))
      })
    })
  }
})

t.test('nothing is opened for who leaves in the same turn', async (t) => {
  let opened = 0
  const chunks = toCsv(() => [{ id: ++opened }])
  const pending = chunks.next()
  await chunks.return?.()
  t.same(await pending, { done: true, value: undefined })
  t.equal(opened, 0)
})

t.test('what Node composes of streams ends no process when its last row breaks the export', async (t) => {
  async function* twoRows() {
    yield row
    yield row
  }
  async function* same(rows: AsyncIterable<object>) {
    for await (const row of rows) yield row
  }
  const composed = {
    compose: () => compose(twoRows(), same),
    'its method': () => Readable.from(twoRows()).compose(same)
  }
  for (const [name, open] of Object.entries(composed)) {
    t.test(name, async (t) => {
      const { url, receipt } = await watch(t, (app) => {
        app.get('/', (_request, reply) => reply.csv(open() as AsyncIterable<object>, { maxRows: 1 }))
      })
      t.equal((await get(url, {})).status, 422)
      t.match(await receipt(), { status: 'limit_reached' })
      await turns(3)
    })
  }
})

t.test('a response of another server ends no process when its export is let go of', async (t) => {
  const upstream = createServer((_request, response) => response.write('id\n1\n')).listen(0, '127.0.0.1')
  await once(upstream, 'listening')
  t.teardown(() => {
    upstream.closeAllConnections()
    upstream.close()
  })
  const { port } = upstream.address() as AddressInfo
  // So that its request is left without a listener.
  const open = async () => (await once(httpGet({ port, host: '127.0.0.1', agent: false }), 'response'))[0]
  const { url, receipt } = await watch(t, (app) => {
    const options: CsvOptions<any> = { encoded: true, maxDuration: 200 }
    app.get('/given', async (_request, reply) => reply.csv<any>(await open(), options))
    app.get('/opened', (_request, reply) => reply.csv<any>(open, options))
  })
  for (const path of ['given', 'opened']) {
    await t.rejects(
      fetch(`${url}/${path}`).then((response) => response.text()),
      path
    )
  }
  t.match(await receipt(1), { status: 'limit_reached' })
  await fetch(`${url}/given`, { method: 'HEAD' })
  await fetch(`${url}/given`, { headers: { range: 'bytes=5-' } })
  await turns(10)
  t.pass('the process lives')
})
