import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Test } from 'tap'
import { startCurl } from '../clients.ts'
import { gate, serve } from '../helper.ts'
import { type Front, type ProxyServer, startProxy } from './proxies.ts'

const failure = new Error('the disk is on fire')

/** How an export ends: all but `early` have sent two rows by then. */
export type Way = 'whole' | 'early' | 'late' | 'limit' | 'close' | 'leave'

/** An export that goes on when the test says so. */
class Export {
  readonly started = gate()
  readonly second = gate()
  readonly rest = gate()
  readonly stopped = gate()
  /** Why the source is to stop. */
  reason: unknown

  async *rows(way: Way, signal: AbortSignal): AsyncGenerator<string[]> {
    signal.addEventListener('abort', () => {
      this.reason = signal.reason
      this.stopped.open()
    })
    this.started.open()
    if (way === 'early') throw failure
    yield ['first']
    await this.second.opened
    yield ['second']
    await this.rest.opened
    if (way === 'late') throw failure
    for (; way === 'leave'; await setTimeout(5)) yield ['more']
    yield ['third']
  }
}

/** A curl that runs. */
class Client {
  body = ''
  readonly #process
  readonly #closed: Promise<[number]>

  constructor(args: string[]) {
    this.#process = startCurl('--fail', ...args)
    this.#process.stdout.on('data', (chunk) => {
      this.body += chunk
    })
    this.#closed = once(this.#process, 'close') as Promise<[number]>
  }

  /** Resolves when it has the text. */
  async has(text: string): Promise<void> {
    const { stdout } = this.#process
    while (!this.body.includes(text)) {
      if (stdout.readableEnded) throw new Error(`it ended without ${text}: ${this.body}`)
      await Promise.race([once(stdout, 'data'), this.#closed])
    }
  }

  /** Resolves to its exit status. */
  async ended(): Promise<number> {
    return (await this.#closed)[0]
  }

  leave(): void {
    this.#process.kill()
  }
}

export interface Download {
  running: Export
  client: Client
}

/** An app with a proxy in front of it. */
export class Site {
  readonly app: FastifyInstance
  readonly front: Front
  /** The least time that a row took to the client, in milliseconds, of each of `front`. */
  readonly delays: number[]
  readonly #exports: Map<string, Export>

  static async start(t: Test, proxy: ProxyServer, setting: string): Promise<Site> {
    const exports = new Map<string, Export>()
    const { app, url } = await serve(
      t,
      (app) =>
        app.get('/:way/:id', ({ params }: FastifyRequest<{ Params: { way: Way; id: string } }>, reply) => {
          const { way, id } = params
          const running = exports.get(id) as Export
          const maxRows = way === 'limit' ? 2 : 0
          return reply.csv(({ signal }) => running.rows(way, signal), { header: false, maxRows })
        }),
      { defaults: { endMark: 'END' } }
    )
    return new Site(app, await startProxy(t, proxy, url, setting), exports)
  }

  private constructor(app: FastifyInstance, front: Front, exports: Map<string, Export>) {
    this.app = app
    this.front = front
    this.delays = front.map(() => Number.POSITIVE_INFINITY)
    this.#exports = exports
  }

  download(way: Way, curl: string[]): Download {
    const id = `${this.#exports.size}`
    const running = new Export()
    this.#exports.set(id, running)
    return { running, client: new Client([...curl.slice(0, -1), `${curl.at(-1)}/${way}/${id}`]) }
  }

  /** So much later that what has not happened by then does not happen by itself. */
  async later(): Promise<void> {
    for (let count = 0; count < 10; count++) {
      const { running, client } = this.download('whole', this.front[0]?.curl as string[])
      running.second.open()
      running.rest.open()
      await client.ended()
    }
  }

  /**
   * Downloads in each protocol, where all rows are that come before the end.
   * @param isHeld whether the proxy holds rows back; then they are as far as it lets them
   */
  async begin(way: Way, isHeld = false): Promise<Download[]> {
    const downloads = this.front.map(({ curl }) => this.download(way, curl))
    await Promise.all(downloads.map(({ running }) => running.started.opened))
    if (way === 'early') return downloads
    if (isHeld) {
      for (const { running } of downloads) running.second.open()
      await this.later()
      return downloads
    }
    await Promise.all(downloads.map((download, index) => this.#rowByRow(download, index)))
    return downloads
  }

  async #rowByRow({ running, client }: Download, index: number): Promise<void> {
    await client.has('first\n')
    const yielded = performance.now()
    running.second.open()
    await client.has('second\n')
    this.delays[index] = Math.min(this.delays[index] as number, performance.now() - yielded)
  }
}
