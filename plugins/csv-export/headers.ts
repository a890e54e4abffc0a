import { create as contentDisposition } from 'content-disposition'
import type { FastifyReply } from 'fastify'

/** Headers that describe a streamed body, each only where neither the route nor another plugin has set it. */
export function setStreamHeaders(reply: FastifyReply, type: string, filename?: string): void {
  // The length of a stream is not known, and a wrong one would cut it.
  reply.removeHeader('content-length')
  setDefault(reply, 'content-type', type)
  if (filename !== undefined) setDefault(reply, 'content-disposition', attachment(filename))
  setDefault(reply, 'x-content-type-options', 'nosniff')
  setDefault(reply, 'cache-control', 'no-store')
  // nginx buffers an upstream's body unless the response says not to.
  // https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
  setDefault(reply, 'x-accel-buffering', 'no')
}

/** Makes a reply that was prepared as a download ready to carry an error instead. */
export function removeDownloadHeaders(reply: FastifyReply): void {
  for (const name of ['content-type', 'content-disposition', 'content-encoding', 'content-length']) {
    reply.removeHeader(name)
    reply.raw.removeHeader(name)
  }
}

function setDefault(reply: FastifyReply, name: string, value: string): void {
  if (!reply.hasHeader(name) && !reply.raw.hasHeader(name)) reply.header(name, value)
}

/** RFC 6266: an ASCII `filename` for everyone and `filename*` for the rest. A path is no part of a file's name. */
function attachment(filename: string): string {
  const name = filename
    .toWellFormed()
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach a header
    .replaceAll(/[\u0000-\u001f\u007f-\u009f/\\]/g, '_')
  return contentDisposition(name)
}
