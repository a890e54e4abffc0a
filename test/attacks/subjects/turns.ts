import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { FastifyInstance } from 'fastify'
import type { CsvOptions, PluginOptions, SourceContext } from '../../../plugins/csv-export/index.ts'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

export const defaults: PluginOptions = { sourceTimeout: 0, stallTimeout: 0, maxDuration: 0 }

function* synchronous<T>(item: T, { signal }: SourceContext): Generator<T> {
  while (!signal.aborted) yield item
}

/** It never waits for anything that would give the event loop its turn. */
async function* asynchronous<T>(item: T, { signal }: SourceContext): AsyncGenerator<T> {
  while (!signal.aborted) yield item
}

function work(milliseconds: number): void {
  const end = performance.now() + milliseconds
  while (performance.now() < end);
}

function* slowly<T>(item: T, { signal }: SourceContext): Generator<T> {
  for (; !signal.aborted; work(1)) yield item
}

async function* slowlyAsynchronous<T>(item: T, context: SourceContext): AsyncGenerator<T> {
  yield* slowly(item, context)
}

/** An iterator that is no generator: its promises are the same one. */
const ready = <T>(item: T, { signal }: SourceContext): AsyncIterable<T> => {
  const next = Promise.resolve({ done: false, value: item })
  const end = Promise.resolve({ done: true as const, value: undefined })
  return { [Symbol.asyncIterator]: () => ({ next: () => (signal.aborted ? end : next) }) }
}

/** A promise of another's making, which calls back at once. */
const thenable = <T>(item: T, { signal }: SourceContext): AsyncIterable<T> => {
  const step = () => (signal.aborted ? { done: true, value: undefined } : { done: false, value: item })
  const next = () => ({
    // biome-ignore lint/suspicious/noThenProperty: it is what is tested
    then: (resolve: (step: unknown) => void) => resolve(step())
  })
  return { [Symbol.asyncIterator]: () => ({ next }) } as unknown as AsyncIterable<T>
}

type Kind = <T>(item: T, context: SourceContext) => Iterable<T> | AsyncIterable<T>
const kinds: Record<string, Kind> = {
  synchronous,
  asynchronous,
  'ready promises': ready,
  thenables: thenable
}
const slow: Record<string, Kind> = { synchronous: slowly, asynchronous: slowlyAsynchronous }

interface Endless {
  source: (context: SourceContext) => Iterable<any> | AsyncIterable<any>
  options?: CsvOptions<any>
  isText?: boolean
}

function of(kinds: Record<string, Kind>, what: string, item: unknown, rest: Omit<Endless, 'source'>) {
  return Object.entries(kinds).map(([kind, open]): [string, Endless] => [
    `${what}, ${kind}`,
    { source: (context) => open(item, context), ...rest }
  ])
}

/** Sources that give little or nothing for ever, until they are told to stop. */
export const endless: Record<string, Endless> = Object.fromEntries([
  ...of(kinds, 'empty batches', [], { options: { batches: true } }),
  ...of({ asynchronous }, 'empty batches, coded', [], { options: { batches: true, compress: true } }),
  ...of({ asynchronous }, 'empty batches, with a late head', [], {
    options: { batches: true, commitAfter: 1, columns: ['id'] }
  }),
  ...of({ synchronous, asynchronous }, 'empty strings of CSV', '', { options: { encoded: true } }),
  ...of({ synchronous, asynchronous }, 'empty Buffers of CSV', Buffer.alloc(0), {
    options: { encoded: true }
  }),
  ...of(kinds, 'empty strings', '', { isText: true }),
  ...of(kinds, 'small rows', { id: 1 }, {}),
  ...of(kinds, 'small rows in small batches', [{ id: 1 }], { options: { batches: true } }),
  ...of(slow, 'rows that take a millisecond', { id: 1 }, {}),
  ...of(slow, 'batches that take a millisecond', [], { options: { batches: true } }),
  ...of(slow, 'a batch of a row that takes a millisecond', [{ id: 1 }], { options: { batches: true } })
] as [string, Endless][])

function* counted<T>(count: number, item: T, last: T): Generator<T> {
  for (let index = 0; index < count; index++) yield item
  yield last
}

async function* countedAsynchronous<T>(count: number, item: T, last: T): AsyncGenerator<T> {
  yield* counted(count, item, last)
}

const heapNow = (): number => {
  collectGarbage()
  return process.memoryUsage().heapUsed
}

interface Query {
  name: string
  count: string
  kind: string
  maxDuration: string
}

export default function (app: FastifyInstance): void {
  app.get<{ Querystring: Query }>('/endless', ({ query: { name, maxDuration } }, reply) => {
    const { source, options = {}, isText } = endless[name] as Endless
    const limits = { maxDuration: Number(maxDuration ?? 0) }
    return isText ? reply.streamText(source, limits) : reply.csv(source as any, { ...options, ...limits })
  })
  app.get('/ping', async () => 'pong')
  app.get<{ Querystring: Query }>('/counted', ({ query: { count, kind } }, reply) => {
    const items = kind === 'synchronous' ? counted<object[]> : countedAsynchronous<object[]>
    return reply.csv<any>(items(Number(count), [], [{ id: 1 }]), { batches: true })
  })
  app.get<{ Querystring: Query }>('/counted-text', ({ query: { count, kind } }, reply) =>
    reply.streamText((kind === 'synchronous' ? counted : countedAsynchronous)(Number(count), '', 'id\n1\n'))
  )
  app.get<{ Querystring: Query }>('/heap', ({ query: { count, kind } }, reply) => {
    const heaps: number[] = []
    const batches = function* () {
      for (let index = 0; index <= Number(count) + 1_000; index++) {
        if (index === 1_000 || index === Number(count) + 1_000) heaps.push(heapNow())
        yield []
      }
      yield [{ id: (heaps[1] as number) - (heaps[0] as number) }]
    }
    const asynchronous = async function* () {
      yield* batches()
    }
    return reply.csv<any>(kind === 'synchronous' ? batches() : asynchronous(), { batches: true })
  })
}
