import { once } from 'node:events'
import { Readable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { PluginOptions, SourceInput } from '../../../plugins/csv-export/index.ts'
import { hooks } from './hooks.ts'
import { thrower, values } from './values.ts'

const row = { id: 'row' }
/** Long enough for the row before to be sent. */
const pause = () => setTimeout(20)

function* endless(): Generator<typeof row> {
  for (;;) yield row
}

/** Rows that end when the export has been given up, and then do what they are to do. */
const iterator = (members: object, owner = {}): SourceInput<typeof row> =>
  Object.assign(owner, {
    [Symbol.asyncIterator]: () =>
      Object.create(
        { next: async () => ({ done: false, value: row }) },
        Object.getOwnPropertyDescriptors(members)
      )
  }) as SourceInput<typeof row>

/** Sources by the place where they throw. */
export const places: Record<string, (thrown: unknown) => SourceInput<typeof row>> = {
  'before the first row': (thrown) =>
    // biome-ignore lint/correctness/useYield: it fails before
    async function* () {
      throw thrown
    },
  'after a row': (thrown) =>
    async function* () {
      yield row
      await pause()
      throw thrown
    },
  'the rows function': (thrown) => () => {
    throw thrown
  },
  'a promise of the rows function': (thrown) => () => Promise.reject(thrown),
  'then of what the rows function returns': (thrown) => () =>
    ({
      // biome-ignore lint/suspicious/noThenProperty: it is what is tested
      get then() {
        throw thrown
      }
    }) as never,
  'next, a getter': (thrown) =>
    iterator({
      get next() {
        throw thrown
      }
    }),
  'then of what next returns': (thrown) =>
    iterator({
      next: () => ({
        // biome-ignore lint/suspicious/noThenProperty: it is what is tested
        then() {
          throw thrown
        }
      })
    }),
  'then, a getter, of what next returns': (thrown) =>
    iterator({
      next: () => ({
        // biome-ignore lint/suspicious/noThenProperty: it is what is tested
        get then() {
          throw thrown
        }
      })
    }),
  'done, a getter': (thrown) =>
    iterator({
      next: async () => ({
        get done() {
          throw thrown
        }
      })
    }),
  'getReader, a getter of what the rows function returns': (thrown) => () =>
    Object.defineProperty(Object.assign([row], { locked: false }), 'getReader', {
      get() {
        throw thrown
      }
    }) as never,
  'a stream': (thrown) => {
    const stream = new Readable({ objectMode: true, read() {} })
    stream.push(row)
    const fail = () => stream.destroy(thrown as Error)
    // Node itself cannot take every value there.
    pause()
      .then(fail)
      .catch((error) => stream.destroy(error))
    return stream
  },
  'a web stream': (thrown) =>
    new ReadableStream({
      start: (controller) => controller.enqueue(row),
      async pull(controller) {
        await pause()
        controller.error(thrown)
      }
    }) as SourceInput<typeof row>,
  'a cell': (thrown) => [
    Object.defineProperty({ ...row }, 'id', {
      enumerable: true,
      get() {
        throw thrown
      }
    })
  ]
}

/** Sources whose clean-up throws, after `maxRows` has ended the export. */
export const releases: Record<string, (thrown: unknown) => SourceInput<typeof row>> = {
  'return, a getter': (thrown) =>
    iterator({
      get return() {
        throw thrown
      }
    }),
  return: (thrown) =>
    iterator({
      return() {
        throw thrown
      }
    }),
  'a promise of return': (thrown) => iterator({ return: () => Promise.reject(thrown) }),
  'then of what return returns': (thrown) =>
    iterator({
      return: () => ({
        // biome-ignore lint/suspicious/noThenProperty: it is what is tested
        then() {
          throw thrown
        }
      })
    }),
  'then, a getter, of what return returns': (thrown) =>
    iterator({
      return: () => ({
        // biome-ignore lint/suspicious/noThenProperty: it is what is tested
        get then() {
          throw thrown
        }
      })
    }),
  'destroy, a getter': (thrown) =>
    iterator(
      {},
      Object.defineProperty({}, 'destroy', {
        get() {
          throw thrown
        }
      })
    ),
  destroy: (thrown) =>
    iterator(
      {},
      {
        destroy() {
          throw thrown
        }
      }
    ),
  'a finally': (thrown) =>
    async function* () {
      try {
        yield* endless()
      } finally {
        // biome-ignore lint/correctness/noUnsafeFinally: it is what is tested
        throw thrown
      }
    },
  'a finally after the abort': (thrown) =>
    async function* ({ signal }) {
      try {
        yield* endless()
      } finally {
        if (!signal.aborted) await once(signal, 'abort')
        // biome-ignore lint/correctness/noUnsafeFinally: it is what is tested
        throw thrown
      }
    },
  'cancel of a web stream': (thrown) =>
    new ReadableStream({
      pull: (controller) => controller.enqueue(row),
      cancel() {
        throw thrown
      }
    }) as SourceInput<typeof row>
}

/** What a request asks for to be thrown by a function of the user's, by its name. */
function throwIfAsked(name: string, { headers }: Pick<FastifyRequest, 'headers'>): void {
  const [asked, value] = String(headers['x-throw']).split('=')
  if (asked === name) throw values[value as string]?.()
}

export const defaults: PluginOptions = {
  concurrencyKey(request) {
    throwIfAsked('concurrencyKey', request)
    return 'all'
  },
  genExportId(request) {
    throwIfAsked('genExportId', request)
    return String(request.headers['x-export'])
  },
  onReceipt(receipt, request) {
    process.send?.({ receipt })
    throwIfAsked('onReceipt', request)
    if (request.headers['x-throw'] === 'onReceipt, then') {
      return {
        // biome-ignore lint/suspicious/noThenProperty: it is what is tested
        get then() {
          return thrower()
        }
      }
    }
  },
  receipts: {
    put: ({ report }) => throwIfAsked('receipts.put', { headers: { 'x-throw': report } }),
    get: () => undefined
  }
}

interface Query {
  place: string
  value: string
}

export default function (app: FastifyInstance): void {
  // Fastify logs the error of a stream that a hook has made. No async function, behind which its oldest versions fail themselves.
  app.addHook<Readable, { Querystring: { hook?: string } }>('onSend', (request, _reply, payload, done) => {
    const { hook } = request.query
    const isLeft = hook === undefined || typeof payload === 'string'
    done(null, isLeft ? payload : (hooks[hook]?.(payload, request) as Readable))
  })
  app.get<{ Querystring: Query }>('/source', ({ query: { place, value } }, reply) =>
    reply.csv(places[place]?.(values[value]?.()) ?? [])
  )
  app.get<{ Querystring: Query }>('/release', ({ query: { place, value } }, reply) =>
    reply.csv(releases[place]?.(values[value]?.()) ?? [], { maxRows: 10 })
  )
  app.get<{ Querystring: Query }>('/cast', ({ query: { place, value } }, reply) =>
    reply.csv(
      async function* () {
        if (place === 'after a row') {
          yield row
          await pause()
        }
        yield { id: 'bad' }
      },
      {
        cast: {
          string(text) {
            if (text === 'bad') throw values[value]?.()
            return text
          }
        }
      }
    )
  )
  app.get('/user', ({ headers }, reply) => reply.csv([row], { report: String(headers['x-throw']) }))
}
