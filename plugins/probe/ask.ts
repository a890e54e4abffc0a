import { once } from 'node:events'
import { type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http'
import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2'
import { request as requestHttps } from 'node:https'
import { connect, isIP } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { type HttpVersion, type Reply, readBody } from './reply.ts'

export interface Question {
  url: URL
  /** In lower case; `accept-encoding` among them. */
  headers: Record<string, string>
  /** Whether a certificate has to be right. */
  isStrict: boolean
  /** Milliseconds; after it the reply counts as broken. */
  timeout: number
}

/** Asks in one version of HTTP. Rejects if there is no reply, as where nobody speaks that version. */
export const askers: Record<HttpVersion, (question: Question) => Promise<Reply>> = {
  '1.0': askHttp10,
  '1.1': askHttp11,
  '2': askHttp2
}

async function askHttp11({ url, headers, isStrict, timeout }: Question): Promise<Reply> {
  const asked = performance.now()
  const request = url.protocol === 'https:' ? requestHttps : requestHttp
  const options: RequestOptions & { rejectUnauthorized: boolean } = {
    headers: { ...headers, te: 'trailers', connection: 'TE, close' },
    agent: false,
    rejectUnauthorized: isStrict,
    signal: AbortSignal.timeout(timeout)
  }
  const sent = request(url, options).end()
  // After the reply's head, errors are the body's.
  sent.on('error', () => {})
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  const { statusCode: status = 0 } = response
  const body = await readBody(response, response.headers['content-encoding'], asked)
  return { status, headers: response.headers, trailers: response.trailers as IncomingHttpHeaders, ...body }
}

async function askHttp2({ url, headers, isStrict, timeout }: Question): Promise<Reply> {
  const asked = performance.now()
  const session = connectHttp2(url, { rejectUnauthorized: isStrict })
  session.on('error', () => {})
  try {
    // A server of HTTP/1 may say nothing at all to the beginning of HTTP/2.
    await once(session, 'remoteSettings', { signal: AbortSignal.timeout(5_000) })
    // Some speak it where they have chosen another one, in which a client would go on.
    if (!['h2', 'h2c'].includes(String(session.alpnProtocol))) throw new Error('HTTP/2 is not chosen')
    const stream = session.request(
      { ...headers, ':path': url.pathname + url.search, te: 'trailers' },
      { signal: AbortSignal.timeout(timeout) }
    )
    let trailers: IncomingHttpHeaders = {}
    stream.on('trailers', (got) => {
      trailers = got
    })
    const [head] = (await once(stream, 'response')) as [IncomingHttpHeaders & { ':status': number }]
    const body = await readBody(stream, head['content-encoding'], asked)
    return { status: head[':status'], headers: head, trailers, ...body }
  } finally {
    session.destroy()
  }
}

/** Node's own client speaks 1.1 alone. */
async function askHttp10({ url, headers, isStrict, timeout }: Question): Promise<Reply> {
  const asked = performance.now()
  const isTls = url.protocol === 'https:'
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  const port = Number(url.port || (isTls ? 443 : 80))
  const socket = isTls
    ? connectTls({ host, port, servername: isIP(host) ? '' : host, rejectUnauthorized: isStrict })
    : connect({ host, port })
  const lines = Object.entries({ host: url.host, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(`GET ${url.pathname}${url.search} HTTP/1.0\r\n${lines.join('')}\r\n`)
  socket.setTimeout(timeout, () => socket.destroy(new Error('ETIMEDOUT')))
  const { pieces, brokenBy } = await readBody(socket, undefined, asked)
  const text = pieces.map((piece) => piece.text).join('')
  const [, status] = /^HTTP\/1\.\d (\d{3})/.exec(text) ?? []
  if (status === undefined) throw new Error(brokenBy ?? 'no reply')
  return { status: Number(status), headers: {}, trailers: {}, pieces, brokenBy }
}
