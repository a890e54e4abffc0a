import { once } from 'node:events'
import { Writable } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { PluginOptions } from '../../../plugins/csv-export/index.ts'

/** A server whose log fails on each error. */
export const server = {
  logger: {
    level: 'trace',
    stream: new Writable({ write: (_line, _encoding, done) => done() }),
    serializers: {
      err() {
        throw new Error('the serializer is broken')
      }
    }
  }
}

export const defaults: PluginOptions = {
  onReceipt(receipt, request) {
    process.send?.({ receipt })
    if (request.url === '/onReceipt') throw new Error('onReceipt')
  },
  receipts: {
    put: ({ report }) => {
      if (report === '/put') throw new Error('put')
    },
    get: () => undefined
  }
}

const row = { id: 'row' }

async function* failing(): AsyncGenerator<typeof row> {
  yield row
  await setTimeout(20)
  throw new Error('late')
}

export default function (app: FastifyInstance): void {
  app.get('/early', (_request, reply) => reply.csv(() => Promise.reject(new Error('early'))))
  app.get('/late', (_request, reply) => reply.csv(failing()))
  app.get('/onReceipt', (_request, reply) => reply.csv([row]))
  app.get('/put', (_request, reply) => reply.csv([row]))
  app.get('/release', (_request, reply) =>
    reply.csv(
      async function* () {
        try {
          for (;;) yield row
        } finally {
          // biome-ignore lint/correctness/noUnsafeFinally: it is what is tested
          throw new Error('finally')
        }
      },
      { maxRows: 10 }
    )
  )
  app.get('/row', (_request, reply) => reply.csv([1 as never]))
  app.get('/commit', (_request, reply) =>
    reply.csv(
      async function* () {
        await setTimeout(50)
        yield row
      },
      { columns: [{ key: 'id', header: '=1' }], formulas: 'reject', commitAfter: 1 }
    )
  )
  app.get('/timeout', { handlerTimeout: 50 }, (_request, reply) =>
    reply.csv(async function* ({ signal }) {
      await once(signal, 'abort')
      yield row
    })
  )
  app.get('/late-timeout', { handlerTimeout: 50 }, (_request, reply) =>
    reply.csv(async function* ({ signal }) {
      yield row
      await once(signal, 'abort')
    })
  )
  app.get('/stalled', (_request, reply) =>
    reply.csv(
      async function* ({ signal }) {
        yield row
        await once(signal, 'abort')
      },
      { sourceTimeout: 20 }
    )
  )
}
