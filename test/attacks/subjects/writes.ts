import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { addPaces, pausing } from './pace.ts'
import { values } from './values.ts'

type Raw = FastifyReply['raw'] & Record<string, (...args: unknown[]) => unknown>

/** What a hook patches: a method of the reply, and when it throws. */
const patches: Record<string, (raw: Raw, thrown: unknown) => void> = {
  'the first write, before': (raw, thrown) => {
    raw.write = () => {
      throw thrown
    }
  },
  'the first write, after': (raw, thrown) => {
    const write = raw.write.bind(raw) as (...args: unknown[]) => unknown
    Object.assign(raw, {
      write(...args: unknown[]) {
        write(...args)
        throw thrown
      }
    })
  },
  'the second write': (raw, thrown) => {
    const write = raw.write.bind(raw) as (...args: unknown[]) => unknown
    let count = 0
    Object.assign(raw, {
      write(...args: unknown[]) {
        if (++count === 2) throw thrown
        return write(...args)
      }
    })
  },
  'the first writeHead': (raw, thrown) => {
    const writeHead = raw.writeHead.bind(raw) as (...args: unknown[]) => unknown
    let count = 0
    Object.assign(raw, {
      writeHead(...args: unknown[]) {
        if (++count === 1) throw thrown
        return writeHead(...args)
      }
    })
  },
  flushHeaders: (raw, thrown) => {
    raw.flushHeaders = () => {
      throw thrown
    }
  },
  'the first end': (raw, thrown) => {
    const end = raw.end.bind(raw) as (...args: unknown[]) => unknown
    let count = 0
    Object.assign(raw, {
      end(...args: unknown[]) {
        if (++count === 1) throw thrown
        return end(...args)
      }
    })
  }
}

interface Query {
  patch: string
  value: string
}

export default function (app: FastifyInstance): void {
  app.addHook<{ Querystring: Query }>('onRequest', async ({ query: { patch, value } }, reply) => {
    patches[patch]?.(reply.raw as Raw, values[value]?.())
  })
  addPaces(app)
  app.get('/flushed', (_request, reply) =>
    reply.csv(
      async function* () {
        await setTimeout(50)
        yield* pausing()
      },
      { commitAfter: 1, compress: false }
    )
  )
  app.get('/heartbeat', (_request, reply) =>
    reply.streamText(
      async function* () {
        await setTimeout(100)
        yield 'late\n'
      },
      { heartbeat: { every: 10, text: '\n' } }
    )
  )
}
