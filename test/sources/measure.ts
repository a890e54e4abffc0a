import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import csvExport from '../../plugins/csv-export/index.ts'
import { Download, type Reply, within } from './client.ts'
import type { Watch } from './engines/engine.ts'
import { type Freed, LIMIT, type Outcome, type View, type Way, WHOLE_ROWS } from './subject.ts'

/** What an error does that nobody catches. */
const CRASH = 'ends the process'
const NEVER: Freed = { gone: null, free: null }

const line = (n: number) => `${n},${'x'.repeat(100)}${n}\n`
const lines = (count: number) =>
  `n,text\n${Array.from({ length: count }, (_, index) => line(index + 1)).join('')}`

/** A server with one way to get rows, and what clients see of it. */
class Measured {
  readonly #url: string
  readonly #watch: Watch | undefined
  /** Bytes of all running exports. */
  readonly bytesWritten: () => number

  constructor(url: string, watch: Watch | undefined, bytesWritten: () => number) {
    this.#url = url
    this.#watch = watch
    this.bytesWritten = bytesWritten
  }

  async whole(): Promise<string> {
    const reply = await within(this.#download('whole').reply, 20_000)
    if (reply === undefined) return 'never ends'
    if (!reply.isComplete || reply.status !== 200) return ended(reply)
    return reply.body === lines(WHOLE_ROWS) ? 'whole' : `${reply.body.split('\n').length - 2} rows`
  }

  /** Three fail, one after another, as each may be given a connection that the last one has left. */
  async failing(): Promise<string> {
    const ends: string[] = []
    for (let time = 0; time < 3; time++)
      ends.push(ended(await within(this.#download('failing').reply, 20_000)))
    const next = await within(this.#download('few').reply, 2_000)
    if (next === undefined) return `${ends[0]}, then no connection`
    if (new Set(ends).size > 1 || next.body !== lines(10)) return `${ends[0]}, then the next export fails`
    return ends[0] as string
  }

  /** The server ends the connection while the statement waits. */
  async killed(): Promise<string> {
    const watch = this.#watch as Watch
    const download = this.#download('waiting')
    await until(async () => (await watch.sleeping?.()) === 1)
    await watch.kill?.('waiting')
    const reply = await within(download.reply)
    download.leave()
    return ended(reply)
  }

  /** The same while the client does not read, and the source is not asked. */
  async killedIdle(): Promise<string> {
    const watch = this.#watch as Watch
    const download = this.#download('big')
    await download.first.promise
    download.pause()
    await untilStill(() => this.bytesWritten())
    if ((await watch.running('big')) === 0) return 'no statement'
    await watch.kill?.('big')
    await until(async () => (await watch.running('big')) === 0)
    download.resume()
    const reply = await within(download.reply)
    download.leave()
    return ended(reply)
  }

  /** Three clients leave at the same time, and a fourth comes. */
  async leave(view: 'big' | 'waiting'): Promise<Freed> {
    const watch = this.#watch as Watch
    const downloads = [1, 2, 3].map(() => this.#download(view))
    if (view === 'waiting') await until(async () => (await watch.sleeping?.()) === 3)
    else await Promise.all(downloads.map(({ first }) => first.promise))
    const start = performance.now()
    for (const download of downloads) download.leave()
    const since = () => Math.ceil(performance.now() - start)
    const last = this.#download('few')
    const [gone, free] = await Promise.all([
      until(async () => (await watch.running(view)) === 0).then(since, () => null),
      within(last.reply).then((reply) => (reply?.isComplete && reply.body === lines(10) ? since() : null))
    ])
    last.leave()
    return { gone, free }
  }

  #download(view: View): Download {
    return new Download(`${this.#url}/${view}`)
  }
}

function ended(reply: Reply | undefined): string {
  if (reply === undefined) return 'never ends'
  if (!reply.isComplete) return 'reset'
  if (reply.status !== 200) return `${reply.status} ${JSON.parse(reply.body).code ?? ''}`.trim()
  return 'ends well'
}

/** For what tells no event: the state of another process. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + LIMIT
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('it did not come to that')
    await sleep(5)
  }
}

/** Waits until sockets hold all that they can. */
async function untilStill(count: () => number): Promise<void> {
  for (let before = -1; before !== count(); await sleep(200)) before = count()
}

export async function serve(way: Way) {
  const app = Fastify()
  await app.register(csvExport, { closeGrace: 0 })
  app.get<{ Params: { view: View } }>('/:view', ({ params: { view } }, reply) =>
    reply.csv(
      (context: { signal: AbortSignal }) => way.rows(view, context) as AsyncIterable<object>,
      way.options as object
    )
  )
  await app.listen({ host: '127.0.0.1', port: 0 })
  return {
    url: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`,
    bytesWritten: () => app.csvExports.running().reduce((sum, { bytes }) => sum + bytes, 0),
    close: () => app.close()
  }
}

/** @param open anew for each, so that one trap does not hide another */
export async function measure(open: () => Promise<Way> | Way, watch: Watch | undefined): Promise<Outcome> {
  const one = async <T>(job: (measured: Measured) => Promise<T>, crashed: T): Promise<T> => {
    const crash = Promise.withResolvers<T>()
    process.removeAllListeners('uncaughtException')
    process.on('uncaughtException', (error) => {
      console.error(error)
      crash.resolve(crashed)
    })
    const way = await open()
    const { url, bytesWritten, close } = await serve(way)
    const result = await Promise.race([job(new Measured(url, watch, bytesWritten)), crash.promise])
    // A way that lost its connections may wait for them for good.
    await within(
      Promise.all([close(), way.close()]).catch(() => {}),
      500
    )
    if (watch) for (const view of ['big', 'waiting'] as const) await watch.kill?.(view)
    return result
  }
  const outcome: Outcome = {
    whole: await one((measured) => measured.whole(), CRASH),
    failing: await one((measured) => measured.failing(), CRASH)
  }
  if (watch === undefined || outcome.whole !== 'whole') return outcome
  outcome.streaming = await one((measured) => measured.leave('big'), NEVER)
  if (watch.sleeping === undefined) return outcome
  return {
    ...outcome,
    killed: await one((measured) => measured.killed(), CRASH),
    killedIdle: await one((measured) => measured.killedIdle(), CRASH),
    waiting: await one((measured) => measured.leave('waiting'), NEVER)
  }
}
