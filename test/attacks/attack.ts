import { type ChildProcess, fork } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { get as httpGet, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { finished } from 'node:stream/promises'
import { gunzipSync } from 'node:zlib'
import type { Test } from 'tap'
import type { Receipt } from '../../plugins/csv-export/index.ts'
import { getHttp2, patience } from './wire.ts'

/** A server in a process of its own, started anew if an attack has ended it. */
export class Victim extends EventEmitter {
  readonly #subject: string
  readonly #http: 'http1' | 'http2'
  #child: ChildProcess | undefined
  #url = ''
  #stderr = ''
  #receipts: Receipt[] = []
  #said: Said[] = []
  #attacks = 0

  private constructor(subject: string, http: 'http1' | 'http2') {
    super()
    this.#subject = subject
    this.#http = http
    this.setMaxListeners(0)
  }

  /** @param subject what the server does: the URL of a module as `Subject` in victim.ts */
  static async start(t: Test, subject: URL, http: 'http1' | 'http2' = 'http1'): Promise<Victim> {
    const victim = new Victim(subject.href, http)
    t.teardown(() => victim.#end())
    await victim.#start()
    return victim
  }

  /** An address for one attack, and the header by which its receipts are known, for curl too. */
  async prepare(path: string): Promise<Prepared> {
    if (!this.#isAlive()) await this.#start()
    const id = `attack-${++this.#attacks}`
    const headers = { 'x-export': id }
    return { id, url: this.#url + path, headers, args: ['--header', `x-export: ${id}`] }
  }

  /**
   * Its process lives, a new connection gets an export although only one may run, and one receipt came of the attack.
   * @param expected undefined if the attack was refused before there was an export
   */
  async checkSurvived(t: Test, id: string, expected: Expected<Receipt> | undefined): Promise<void> {
    const next = await this.#next()
    if (!this.#isAlive()) {
      t.fail('the process has ended', { stderr: this.#stderr.slice(0, 2_000) })
      return
    }
    const served = { status: 200, body: 'id\n1\n', isWhole: true }
    t.match(next, served, 'the next export is served')
    // Sent through the same channel: those of the attack are here.
    const receipts = this.#receipts.filter((receipt) => receipt.id === id)
    const wanted = expected === undefined ? [] : [expected]
    t.match(receipts, wanted, 'the receipts')
    t.equal(receipts.length, wanted.length, 'no more of them')
    // One that keeps the place would be in the way of the attacks to come.
    if (next.status !== 200) await this.stop()
  }

  /** Resolves when the subject has said something of the attack, or `within` milliseconds have passed. */
  async said(id: string, what: string, within = 2_000): Promise<Said | undefined> {
    const find = () => this.#said.find((said) => said.id === id && said.what === what)
    const { signal, stop } = patience(within)
    while (find() === undefined && !signal.aborted) await once(this, 'said', { signal }).catch(() => {})
    stop()
    return find()
  }

  /** Resolves when a receipt of the attack has come, or `within` milliseconds have passed. */
  async receipt(id: string, within = 2_000): Promise<Receipt | undefined> {
    const find = () => this.#receipts.find((receipt) => receipt.id === id)
    const { signal, stop } = patience(within)
    while (find() === undefined && !signal.aborted) await once(this, 'receipt', { signal }).catch(() => {})
    stop()
    return find()
  }

  /** Ends the process; the next attack finds a new one. */
  async stop(): Promise<void> {
    if (this.#child === undefined) return
    this.#child.kill('SIGKILL')
    await once(this, 'exit')
  }

  async #next(): Promise<Partial<Reply>> {
    const id = `next-${this.#attacks}`
    const told = new Promise<void>((resolve) => {
      const look = () => {
        if (this.#child === undefined || this.#receipts.some((receipt) => receipt.id === id)) {
          this.off('receipt', look).off('exit', look)
          resolve()
        }
      }
      this.on('receipt', look).on('exit', look)
    })
    // A client that sees the end of its reply may be ahead of the server.
    const deadline = performance.now() + 2_000
    for (;;) {
      const next = await this.#get(`${this.#url}/next`, { 'x-export': id })
      const isServed = next.status === 200
      if (isServed) await told
      if (isServed || !this.#isAlive() || performance.now() > deadline) return next
    }
  }

  async #get(url: string, headers: Record<string, string>): Promise<Partial<Reply>> {
    if (this.#http === 'http1') return get(url, headers).catch((error) => error)
    const { status, body, end } = await getHttp2(url, headers)
    return { status, body, isWhole: end === 'whole' }
  }

  #isAlive(): boolean {
    return this.#child !== undefined
  }

  async #start(): Promise<void> {
    const child = fork(new URL('victim.ts', import.meta.url), [this.#subject, this.#http], { silent: true })
    this.#child = child
    this.#stderr = ''
    child.stderr?.on('data', (text) => {
      this.#stderr += text
    })
    child.once('close', () => {
      this.#child = undefined
      this.emit('exit')
    })
    const port = new Promise<number>((resolve, reject) => {
      child.on('message', (message: { port?: number; receipt?: Receipt; said?: Said }) => {
        if (message.port !== undefined) resolve(message.port)
        if (message.said !== undefined) {
          this.#said.push(message.said)
          this.emit('said')
        }
        if (message.receipt === undefined) return
        this.#receipts.push(message.receipt)
        this.emit('receipt')
      })
      child.once('close', () => reject(new Error(this.#stderr)))
    })
    this.#url = `http://127.0.0.1:${await port}`
  }

  /** It ends by itself: a killed process cannot say what it has covered. */
  async #end(): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    const exited = once(child, 'exit')
    child.disconnect()
    await exited
  }
}

/** A pattern for `t.match()`. */
export type Expected<T> = { [key in keyof T]?: T[key] | RegExp }

/** What a subject tells: `process.send({ said })`. */
export interface Said {
  id: string
  what: string
  value?: unknown
}

interface Prepared {
  id: string
  url: string
  headers: Record<string, string>
  args: string[]
}

export interface Reply {
  status: number | undefined
  body: string
  /** Whether its end was seen. */
  isWhole: boolean
}

/** A request over a connection of its own. Rejects if there is no reply. */
export async function get(url: string, headers: Record<string, string>): Promise<Reply> {
  const request = httpGet(url, { headers, agent: false })
  // A reset comes to it too, after the response has.
  request.on('error', () => {})
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  let body = ''
  response.setEncoding('utf8').on('data', (text) => {
    body += text
  })
  await finished(response).catch(() => {})
  return { status: response.statusCode, body, isWhole: response.complete }
}

export interface Exchange {
  status: number
  head: string
  /** Decoded, if it is whole. */
  body: string
  /** Whether the connection was reset, not ended. */
  isReset: boolean
}

/** What no client would send: a request as text, over a connection of its own, read until the server ends that. */
export async function exchange(url: string, request: string): Promise<Exchange> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  let received = ''
  let isReset = false
  socket.setEncoding('latin1').on('data', (text) => {
    received += text
  })
  socket.on('error', () => {
    isReset = true
  })
  socket.write(request)
  await once(socket, 'close')
  const [head = '', ...rest] = received.split('\r\n\r\n')
  const status = Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1])
  const bytes = Buffer.from(rest.join('\r\n\r\n'), 'latin1')
  const isCoded = /^content-encoding: gzip/im.test(head)
  return { status, head, body: (isCoded ? gunzipSync(bytes) : bytes).toString(), isReset }
}
