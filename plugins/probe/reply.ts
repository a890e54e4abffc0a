import type { IncomingHttpHeaders } from 'node:http'
import { pipeline, type Readable } from 'node:stream'
import { createBrotliDecompress, createGunzip, createZstdDecompress } from 'node:zlib'

/** As a client may speak. */
export type HttpVersion = '1.0' | '1.1' | '2'

/** What a client has got. Times are milliseconds since it asked. */
export interface Reply {
  status: number
  headers: IncomingHttpHeaders
  trailers: IncomingHttpHeaders
  /** Decoded text, as it came. */
  pieces: { at: number; text: string }[]
  /** How the client was told that it is not whole; undefined if it was not. */
  brokenBy: string | undefined
}

/** What there is of a body, however it ends. */
export async function readBody(
  body: Readable,
  coding: string | undefined,
  asked: number
): Promise<Pick<Reply, 'pieces' | 'brokenBy'>> {
  const pieces: Reply['pieces'] = []
  const decoder = coding === undefined ? undefined : decoders[coding.toLowerCase()]?.()
  // Errors reach the decoder, which is read.
  const decoded = decoder === undefined ? body : pipeline(body, decoder, () => {})
  const utf8 = new TextDecoder()
  try {
    for await (const chunk of decoded) {
      pieces.push({ at: performance.now() - asked, text: utf8.decode(chunk, { stream: true }) })
    }
    return { pieces, brokenBy: undefined }
  } catch (error) {
    return { pieces, brokenBy: codeOf(error) }
  }
}

const decoders: Record<string, () => NodeJS.ReadWriteStream & Readable> = {
  zstd: createZstdDecompress,
  br: createBrotliDecompress,
  gzip: createGunzip
}

/** The codings that `readBody()` knows, in the order in which the plugin prefers them. */
export const codings = Object.keys(decoders).join(', ')

export function codeOf(error: unknown): string {
  const { code, message } = error as Error & { code?: string }
  return code ?? message
}
