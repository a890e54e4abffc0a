import { once } from 'node:events'
import { connect as connectHttp2, constants } from 'node:http2'
import { connect, type Socket } from 'node:net'

/**
 * How a reply ended, as its client sees it. `whole`: by the rules of its protocol nothing is missing, which on HTTP/1.0 an
 * orderly close says. `cut`: closed in an orderly way before its last chunk. `reset`: of the connection, or of the stream.
 * `none`: not within the time that the client waits.
 */
export type End = 'whole' | 'cut' | 'reset' | 'none'

export interface Seen {
  status: number | undefined
  head: string
  /** Without the chunks' sizes. */
  body: string
  end: End
}

/** A signal after a time in milliseconds for which the process stays alive: what attacks wait for may never come. */
export function patience(within = 2_000): { signal: AbortSignal; stop(): void } {
  const controller = new AbortController()
  const timer = setTimeout(() => controller.abort(), within)
  return { signal: controller.signal, stop: () => clearTimeout(timer) }
}

/** A connection of HTTP/1 on which anything can be sent. */
export class Wire {
  readonly socket: Socket
  #received = ''
  #end: End = 'none'

  constructor(url: string) {
    const { hostname, port } = new URL(url)
    this.socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true, noDelay: true })
    this.socket.setEncoding('latin1').on('data', (text) => {
      this.#received += text
    })
    this.socket.on('error', () => {
      this.#end = 'reset'
    })
    this.socket.on('end', () => {
      this.#end = 'cut'
      this.socket.end()
    })
  }

  send(text: string): this {
    this.socket.write(text)
    return this
  }

  /** All replies that have begun. */
  get replies(): Seen[] {
    const replies: Seen[] = []
    let rest = this.#received
    do {
      const { reply, rest: following } = parse(rest, this.#end)
      replies.push(reply)
      rest = following
    } while (rest !== '')
    return replies
  }

  /** Resolves when something of a body, or an end, has come. */
  async begun(): Promise<void> {
    const { signal, stop } = patience()
    while (!/\r\n\r\n./s.test(this.#received) && this.#end === 'none' && !signal.aborted) {
      await this.#more(signal)
    }
    stop()
  }

  /** Waits until as many replies are over as are due, then leaves. */
  async over(count = 1): Promise<Seen[]> {
    const { signal, stop } = patience()
    const areWhole = () => this.replies.filter(({ end }) => end === 'whole').length >= count
    while (!areWhole() && !this.socket.closed && !signal.aborted) await this.#more(signal)
    stop()
    const { replies } = this
    this.socket.destroy()
    return replies
  }

  #more(signal: AbortSignal): Promise<unknown> {
    const stop = new AbortController()
    const options = { signal: AbortSignal.any([signal, stop.signal]) }
    const events = ['data', 'end', 'close'].map((event) => once(this.socket, event, options).catch(() => {}))
    return Promise.race(events).finally(() => stop.abort())
  }
}

function parse(text: string, end: End): { reply: Seen; rest: string } {
  const headEnd = text.indexOf('\r\n\r\n')
  if (headEnd === -1) return { reply: { status: undefined, head: text, body: '', end }, rest: '' }
  const head = text.slice(0, headEnd)
  const rest = text.slice(headEnd + 4)
  const status = Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1])
  if (/^transfer-encoding: chunked/im.test(head)) {
    const chunked = parseChunks(rest)
    return {
      reply: { status, head, body: chunked.body, end: chunked.isWhole ? 'whole' : end },
      rest: chunked.rest
    }
  }
  const length = /^content-length: (\d+)/im.exec(head)?.[1]
  if (length !== undefined) {
    const body = rest.slice(0, Number(length))
    const isWhole = body.length === Number(length)
    return {
      reply: { status, head, body, end: isWhole ? 'whole' : end },
      rest: rest.slice(Number(length))
    }
  }
  return { reply: { status, head, body: rest, end: end === 'cut' ? 'whole' : end }, rest: '' }
}

function parseChunks(text: string): { body: string; isWhole: boolean; rest: string } {
  let body = ''
  let rest = text
  for (;;) {
    const line = /^([0-9a-f]+)\r\n/i.exec(rest)
    // What is no chunk belongs to the body as far as anybody can tell.
    if (line === null) return { body: body + rest, isWhole: false, rest: '' }
    const size = Number.parseInt(line[1] as string, 16)
    rest = rest.slice(line[0].length)
    if (size === 0) {
      const trailersEnd = rest.startsWith('\r\n') ? 0 : rest.indexOf('\r\n\r\n') + 2
      return { body, isWhole: trailersEnd !== 1, rest: rest.slice(trailersEnd + 2) }
    }
    body += rest.slice(0, size)
    rest = rest.slice(size + 2)
  }
}

export type Version = '1.0' | '1.1' | '2'

export interface Asked {
  method?: string
  /** What the client does when it has asked; the end of the reply is awaited afterwards. */
  meanwhile?: ((client: Client) => unknown) | undefined
}

export interface Client {
  /** Resolves when something of a body has come. */
  begun(): Promise<unknown>
  /** Reads no more. */
  pause(): void
  /** Reads again. */
  resume(): void
  leave(): void
}

/** One request over a connection of its own. */
export async function ask(
  version: Version,
  url: string,
  headers: Record<string, string>,
  { method = 'GET', meanwhile }: Asked = {}
): Promise<Seen> {
  if (version === '2') return getHttp2(url, headers, { method, meanwhile })
  const { pathname, search } = new URL(url)
  const lines = Object.entries({ host: 'a', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
  const wire = new Wire(url).send(`${method} ${pathname}${search} HTTP/${version}\r\n${lines.join('')}\r\n`)
  await meanwhile?.({
    begun: () => wire.begun(),
    pause: () => wire.socket.pause(),
    resume: () => wire.socket.resume(),
    leave: () => wire.socket.destroy()
  })
  return (await wire.over())[0] as Seen
}

export async function getHttp2(
  url: string,
  headers: Record<string, string>,
  { method = 'GET', meanwhile }: Asked = {}
): Promise<Seen> {
  const { origin, pathname, search } = new URL(url)
  const session = connectHttp2(origin).on('error', () => {})
  const stream = session.request({ ':method': method, ':path': pathname + search, ...headers })
  let head: Record<string, unknown> = {}
  let body = ''
  let end: End = 'none'
  stream.setEncoding('latin1')
  stream.on('response', (received) => {
    head = received as Record<string, unknown>
  })
  stream.on('data', (text) => {
    body += text
  })
  stream.on('error', () => {
    end = 'reset'
  })
  stream.on('aborted', () => {
    end = 'reset'
  })
  stream.on('end', () => {
    // Node says the end of a stream, too, when its connection has been closed.
    if (end === 'none') end = session.destroyed || session.socket?.readableEnded ? 'reset' : 'whole'
  })
  const { signal, stop } = patience()
  const closed = once(stream, 'close', { signal }).catch(() => {})
  await meanwhile?.({
    begun: () => once(stream, 'data', { signal }).catch(() => {}),
    pause: () => stream.pause(),
    resume: () => stream.resume(),
    leave: () => stream.close(constants.NGHTTP2_CANCEL)
  })
  await closed
  stop()
  if (stream.closed && stream.rstCode !== constants.NGHTTP2_NO_ERROR) end = 'reset'
  session.destroy()
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}`)
  return { status: head[':status'] as number | undefined, head: lines.join('\r\n'), body, end }
}

/** What a client sees of a body that is not whole: HTTP/1.0 takes an orderly close for its end. */
export function isBroken(version: Version, { end }: Seen): boolean {
  return end === 'reset' || (version === '1.1' && end === 'cut')
}
