import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { setTimeout } from 'node:timers/promises'
import { createGzip } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import { many } from './pace.ts'

type Write = (chunk: Uint8Array | string, ...rest: unknown[]) => boolean

/** What middleware does with a response's methods. None hands the callback of a write on. */
export const wrappers: Record<string, (raw: ServerResponse) => void> = {
  'write(chunk)': (raw) => {
    const write = raw.write.bind(raw) as Write
    raw.write = ((chunk: string) => write(chunk)) as typeof raw.write
  },
  'write(chunk, encoding)': (raw) => {
    const write = raw.write.bind(raw) as Write
    raw.write = ((chunk: string, encoding: unknown) =>
      write(chunk, typeof encoding === 'string' ? encoding : undefined)) as typeof raw.write
  },
  'write(chunk) that returns nothing': (raw) => {
    const write = raw.write.bind(raw) as Write
    raw.write = ((chunk: string) => {
      write(chunk)
    }) as unknown as typeof raw.write
  },
  'write(chunk) that returns true': (raw) => {
    const write = raw.write.bind(raw) as Write
    raw.write = ((chunk: string) => {
      write(chunk)
      return true
    }) as typeof raw.write
  },
  'write(chunk) that returns false': (raw) => {
    const write = raw.write.bind(raw) as Write
    raw.write = ((chunk: string) => {
      if (write(chunk)) setImmediate(() => raw.emit('drain'))
      return false
    }) as typeof raw.write
  },
  'a callback at once': (raw) => {
    const write = raw.write.bind(raw) as Write
    raw.write = ((chunk: string, done: () => void) => {
      const isTaken = write(chunk)
      done()
      return isTaken
    }) as typeof raw.write
  },
  'a coder, as compression() has it': (raw) => {
    const coder = createGzip()
    const write = raw.write.bind(raw) as Write
    const end = raw.end.bind(raw) as () => ServerResponse
    const on = raw.on.bind(raw)
    raw.setHeader('content-encoding', 'gzip')
    coder.on('data', (chunk) => write(chunk) || coder.pause()).on('end', () => end())
    on('drain', () => coder.resume())
    Object.assign(raw, {
      write: (chunk: Uint8Array) => coder.write(chunk),
      end: (chunk?: Uint8Array) => (chunk ? coder.end(chunk) : coder.end()),
      flush: () => coder.flush(),
      on: (event: string, listener: () => void) =>
        event === 'drain' ? coder.on('drain', listener) : on(event, listener)
    })
  }
}

interface Query {
  wrapper: string
}

export default function (app: FastifyInstance): void {
  app.addHook<{ Querystring: Query }>('onRequest', async ({ query }, reply) => {
    wrappers[query.wrapper]?.(reply.raw)
  })
  app.get('/whole', (_request, reply) => reply.csv(many()))
  app.get('/pausing', (_request, reply) =>
    reply.csv(async function* () {
      yield* many()
      await setTimeout(20)
      yield* many()
    })
  )
  app.get('/late', (_request, reply) =>
    reply.csv(async function* () {
      yield* many()
      await setTimeout(30)
      throw Object.assign(new Error('late'), { code: 'LATE' })
    })
  )
  app.get('/stalled', (_request, reply) =>
    reply.csv(
      function* () {
        for (;;) yield* many()
      },
      { stallTimeout: 100 }
    )
  )
  app.get('/gone', (_request, reply) =>
    reply.csv(async function* ({ signal }) {
      yield* many()
      if (!signal.aborted) await once(signal, 'abort')
    })
  )
}
