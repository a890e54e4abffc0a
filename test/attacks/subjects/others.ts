import { Stream } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply } from 'fastify'

/** A stream of the oldest kind, as some packages still make them: it cannot be destroyed. */
function oldStream(): Stream {
  const stream = new Stream()
  return Object.assign(stream, {
    writable: true,
    write(chunk: unknown, done?: () => void) {
      stream.emit('data', chunk)
      done?.()
      return true
    },
    end: () => stream.emit('end')
  })
}

/** What the hooks of other packages do to a reply. */
const hooks: Record<string, (reply: FastifyReply, payload: NodeJS.ReadableStream) => unknown> = {
  'a property named stream': (reply, payload) => {
    Object.assign(reply.raw, { stream: {} })
    return payload
  },
  'a stream that cannot be destroyed': (_reply, payload) =>
    payload.pipe(oldStream() as unknown as NodeJS.WritableStream)
}

export const names = Object.keys(hooks)

export default function (app: FastifyInstance): void {
  app.addHook<NodeJS.ReadableStream, { Querystring: { hook: string } }>(
    'onSend',
    async ({ query: { hook } }, reply, payload) => hooks[hook]?.(reply, payload) ?? payload
  )
  app.get('/whole', (_request, reply) => reply.csv([{ id: 1 }]))
  app.get('/early', (_request, reply) => reply.csv(() => Promise.reject(new Error('early'))))
  app.get('/late', (_request, reply) =>
    reply.csv(async function* () {
      yield { id: 1 }
      await setTimeout(20)
      throw new Error('late')
    })
  )
}
