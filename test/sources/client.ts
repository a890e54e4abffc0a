import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { LIMIT } from './subject.ts'

export interface Reply {
  status: number
  body: string
  /** Whether its end came, as a client sees it. */
  isComplete: boolean
}

/** A download on a connection of its own. */
export class Download {
  readonly #request
  #body = ''
  #isLeft = false
  #response: IncomingMessage | undefined
  readonly first = Promise.withResolvers<void>()
  readonly reply: Promise<Reply>

  constructor(url: string) {
    this.#request = get(url, { agent: false })
    this.#request.on('error', () => {})
    this.reply = this.#read()
    this.reply.catch(() => {})
    this.first.promise.catch(() => {})
  }

  /** Goes away without a word, as a closed browser tab. */
  leave(): void {
    this.#isLeft = true
    this.#request.destroy()
  }

  pause(): void {
    this.#response?.pause()
  }

  resume(): void {
    this.#response?.resume()
  }

  async #read(): Promise<Reply> {
    const [response] = (await once(this.#request, 'response')) as [IncomingMessage]
    this.#response = response
    response.on('error', () => {})
    response.on('data', (chunk) => {
      // What a client reads before it leaves need not be kept.
      if (this.#body.length < 10_000_000) this.#body += chunk
      if (this.#body.length > 10_000) this.first.resolve()
    })
    await new Promise((resolve) => response.once('close', resolve))
    if (!this.#isLeft) this.first.reject(new Error(`the reply ended: ${this.#body.slice(-200)}`))
    return { status: response.statusCode as number, body: this.#body, isComplete: response.complete }
  }
}

/** Undefined where it takes longer. */
export function within<T>(promise: Promise<T>, milliseconds = LIMIT): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(resolve, milliseconds, undefined)
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
