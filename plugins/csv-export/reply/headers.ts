import { create as contentDisposition } from 'content-disposition'
import type { FastifyReply } from 'fastify'
import { headHasGone, isHttp2 } from '../connection/connection.ts'

/** Set when the helper is called, as hooks decide by it what to do with the body. */
export function setType(reply: FastifyReply, type: string): void {
  // The length of a stream is not known, and a wrong one would cut it.
  reply.removeHeader('content-length')
  if (!isSet(reply, 'content-type')) reply.header('content-type', type)
}

/** Whether the request, and the status so far, have a body. */
export function takesBody({ request, raw }: FastifyReply): boolean {
  return (
    request.method !== 'HEAD' && raw.statusCode >= 200 && raw.statusCode !== 204 && raw.statusCode !== 304
  )
}

/** What of the head depends on the body being sent as a stream. */
export function prepareHead(reply: FastifyReply, length: number | undefined): void {
  const { raw } = reply
  setLength(raw, length)
  const takesChunks = takesTrailers(reply)
  if (!takesChunks) {
    // Node would use it if such a request says `TE: chunked`, which a client's proxy may not understand.
    ;(raw as { useChunkedEncodingByDefault?: boolean }).useChunkedEncodingByDefault = false
  }
  // A message of HTTP/1 has a length or chunks: https://www.rfc-editor.org/rfc/rfc9112#section-6.2
  if (!takesChunks || (length !== undefined && !isHttp2(raw))) dropTrailers(raw)
}

/** Ahead of the body, but not before Fastify has handed the headers over, for which a hook may still make it wait. */
export function sendHead(raw: FastifyReply['raw']): void {
  if (!headHasGone(raw) && isHandedOver(raw)) raw.flushHeaders()
}

/** Whether Fastify has handed the headers over: with a stream, it does so when the hooks have made of it what they want. */
export function isHandedOver(raw: FastifyReply['raw']): boolean {
  return raw.hasHeader('content-type')
}

/** Of a Content-Type, without parameters such as the charset. */
export function mediaTypeOf(contentType: unknown): string | undefined {
  return contentType === undefined ? undefined : String(contentType).replace(/;.*/s, '').trim().toLowerCase()
}

/**
 * Calls back just before the head of a reply is written, whoever writes it, and just after that: only what has wrapped
 * `writeHead()` earlier can set a header in between.
 */
export function onHead(
  raw: FastifyReply['raw'],
  before: (statusCode: number) => void,
  after?: () => void
): void {
  const write = raw.writeHead
  const value = function (this: typeof raw, ...head: Parameters<typeof write>) {
    const isFirst = !headHasGone(raw)
    if (isFirst) before(head[0])
    const written = write.apply(this, head)
    if (isFirst) after?.()
    return written
  }
  // After an assignment, V8's young collector keeps each reply, and all that hangs on it, until the next full collection.
  Object.defineProperty(raw, 'writeHead', { value, writable: true, enumerable: true, configurable: true })
}

/** Says the export's id; with none, takes back what an earlier body of the reply has said. */
export function setExportId(reply: FastifyReply, id: string | undefined): void {
  dropHeader(reply, exportIdHeader)
  if (id !== undefined) reply.raw.setHeader(exportIdHeader, id)
}

/** Headers that describe a streamed body, each only where nobody else has set it. */
export function setStreamHeaders(
  reply: FastifyReply,
  { filename, length }: { filename?: string; length?: number | undefined }
): void {
  // Of a body, it is said before the body begins.
  if (length !== undefined && !takesBody(reply)) setLate(reply, 'content-length', String(length))
  if (filename !== undefined) setLate(reply, 'content-disposition', attachment(filename))
  setLate(reply, 'x-content-type-options', 'nosniff')
  setLate(reply, 'cache-control', 'no-store')
  // nginx buffers an upstream's body unless the response says not to.
  // https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
  setLate(reply, 'x-accel-buffering', 'no')
}

const exportIdHeader = 'export-id'

/** Seconds after which a client that was refused may try again. */
export const retryAfter = '10'

export function setRetryAfter(reply: FastifyReply): void {
  if (!isSet(reply, 'retry-after')) reply.header('retry-after', retryAfter)
}

const trailerNames = ['export-rows', 'repr-digest'] as const

/**
 * Announces trailers, if the client can read them, and has them asked for when the body has been written.
 * One that is undefined then is left out.
 */
export function addTrailers(
  reply: FastifyReply,
  values: () => Record<(typeof trailerNames)[number], string | undefined>
): boolean {
  const { te = '' } = reply.request.headers
  const isAsked = /(^|,)\s*trailers\s*(,|$)/i.test(String(te))
  if (!isAsked || !takesTrailers(reply) || !sendsTrailers(reply.server.version)) return false
  for (const name of trailerNames) {
    reply.trailer(name, (_reply, _payload, done) => {
      const value = values()[name]
      // As text: Fastify logs it, and the serializer of a user for errors may throw.
      if (value === undefined) done(`no ${name} for this body` as unknown as Error)
      else done(null, value)
    })
  }
  return true
}

/** Earlier versions of Fastify announce the trailers of a stream and send none, and leave a stream of HTTP/2 open. */
function sendsTrailers(fastifyVersion: string): boolean {
  return fastifyVersion.localeCompare('5.12.8', 'en', { numeric: true }) >= 0
}

/** HTTP/1 has trailers behind chunks alone, and Node makes no chunks for any version x.0 but HTTP/2's own. */
function takesTrailers({ raw, request }: FastifyReply): boolean {
  const { httpVersionMajor, httpVersionMinor } = request.raw
  return isHttp2(raw) || (httpVersionMajor >= 1 && httpVersionMinor >= 1)
}

/** Fastify puts blanks between the names: https://www.rfc-editor.org/rfc/rfc9110#section-6.6.2 wants commas. */
export function separateTrailerNames(reply: FastifyReply): void {
  // Of a text, Fastify has not handed them over yet.
  const names = reply.getHeader('trailer')
  if (names === undefined) return
  const separated = String(names).split(/[ ,]+/).join(', ')
  if (reply.hasHeader('trailer')) reply.header('trailer', separated)
  if (reply.raw.hasHeader('trailer')) reply.raw.setHeader('trailer', separated)
}

/** Node throws where a reply without a body announces them. */
export function takeBackTrailers(reply: FastifyReply): void {
  for (const name of ['trailer', 'transfer-encoding']) if (reply.hasHeader(name)) dropHeader(reply, name)
  for (const name of trailerNames) reply.removeTrailer(name)
}

/** Of what a hook makes of the body, when there are trailers: https://www.rfc-editor.org/rfc/rfc9112#section-6.2 */
export function dropLengthOfChunks(reply: FastifyReply): void {
  if (isSet(reply, 'transfer-encoding') && isSet(reply, 'content-length')) dropHeader(reply, 'content-length')
}

/** A hook that sets another cannot have counted a stream, and a client would take the beginning for the whole file. */
function setLength(raw: FastifyReply['raw'], length: number | undefined): void {
  if (headHasGone(raw)) return
  if (length === undefined) raw.removeHeader('content-length')
  else raw.setHeader('content-length', length)
}

/** A reply without a body, or without chunks, has no place for them, and Node throws if it announces them. */
export function dropTrailers(raw: FastifyReply['raw']): void {
  if (headHasGone(raw)) return
  drop(raw, 'trailer')
  drop(raw, 'transfer-encoding')
}

/** Node makes no chunks for a reply that its transfer-encoding has been removed from, even if there was none. */
function drop(raw: FastifyReply['raw'], name: string): void {
  if (raw.hasHeader(name)) raw.removeHeader(name)
}

/** Makes a reply that was prepared as a download ready to carry an error instead. */
export function prepareErrorReply(reply: FastifyReply, error: Error & { statusCode?: number }): void {
  if (headHasGone(reply.raw)) return
  const ofContent = [
    'content-type',
    'content-disposition',
    'content-encoding',
    'content-length',
    'content-range'
  ]
  const described = [...ofContent, 'etag', 'last-modified', 'expires', 'repr-digest']
  // Of both: Fastify's own removes Node's, too, be there one or not.
  for (const name of described) if (reply.hasHeader(name)) dropHeader(reply, name)
  takeBackTrailers(reply)
  // How long the file may be kept: a cache would give out the error as long.
  if (isSet(reply, 'cache-control')) reply.header('cache-control', 'no-store')
  if (error.statusCode === 503) setRetryAfter(reply)
}

/** Says that a reply depends on a header of the request, besides those that others have named. */
export function addVary(reply: FastifyReply, name: string): void {
  const named = String(reply.getHeader('vary') ?? '')
  const names = named.toLowerCase().split(/[\s,]+/)
  if (names.includes('*') || names.includes(name)) return
  reply.header('vary', named === '' ? name : `${named}, ${name}`)
}

/** Of what has been handed over to `raw`, too. */
export function dropHeader(reply: FastifyReply, name: string): void {
  reply.removeHeader(name)
  reply.raw.removeHeader(name)
}

/** Fastify has handed its headers over by then. */
function setLate(reply: FastifyReply, name: string, value: string): void {
  if (!isSet(reply, name)) reply.raw.setHeader(name, value)
}

function isSet(reply: FastifyReply, name: string): boolean {
  return reply.hasHeader(name) || reply.raw.hasHeader(name)
}

/** RFC 6266: an ASCII `filename` for everyone and `filename*` for the rest. A path is no part of a file's name. */
function attachment(filename: string): string {
  const name = filename
    .toWellFormed()
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach a header
    .replaceAll(/[\u0000-\u001f\u007f-\u009f/\\]/g, '_')
  return contentDisposition(name)
}
