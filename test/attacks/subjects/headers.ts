import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { CsvOptions } from '../../../plugins/csv-export/index.ts'

/** Casts of strings by what they do to the header; rows they leave alone. */
const ofHeader = (cast: () => unknown): CsvOptions => ({
  cast: { string: (value, { header }) => (header ? (cast() as string) : value) }
})

const thrower = (thrown: unknown) => (): never => {
  throw thrown
}

/** Headers that cannot be written. */
export const heads: Record<string, CsvOptions> = {
  formula: { formulas: 'reject', columns: [{ key: 'a', header: '=How much' }] },
  separator: { quote: false, columns: [{ key: 'a', header: 'Amount, EUR' }] },
  'record delimiter': { quote: '', columns: [{ key: 'a', header: 'Amount\nEUR' }] },
  'an Error of a cast': ofHeader(thrower(new Error('no such unit'))),
  'an Error with a code of a cast': ofHeader(
    thrower(Object.assign(new Error('no unit'), { code: 'NO_UNIT' }))
  ),
  'a frozen Error of a cast': ofHeader(thrower(Object.freeze(new Error('frozen')))),
  'an object without prototype of a cast': ofHeader(thrower(Object.create(null))),
  'undefined of a cast': ofHeader(thrower(undefined)),
  'a number for a text': ofHeader(() => 1),
  'an array for a text': ofHeader(() => []),
  'a symbol for a text': ofHeader(() => Symbol('header')),
  'a value that is none': ofHeader(() => ({ value: 1 })),
  'a value that throws': ofHeader(() => ({
    get value() {
      throw new Error('getter')
    }
  }))
}

interface Query {
  head: string
  wait: string
}

export default function (app: FastifyInstance): void {
  const send = ({ head, wait }: Query, reply: FastifyReply) => {
    const options: CsvOptions = { columns: ['a'], commitAfter: 1, ...heads[head] }
    return reply.csv(async function* () {
      await setTimeout(Number(wait))
      yield { a: 'x' }
    }, options)
  }
  app.get<{ Querystring: Query }>('/', ({ query }, reply) => send(query, reply))
  app.get<{ Querystring: Query }>('/sent', ({ query }, reply) => {
    reply.raw.flushHeaders()
    return send(query, reply)
  })
}
