import type { FastifyReply, FastifyRequest } from 'fastify'
import { parse, type Range } from 'range-parser'
import type { CsvOptions } from '../../csv-export/index.ts'
import type { Internals } from '../../csv-export/internals.ts'
import { CSV_EXPORT_RANGE_NOT_SATISFIABLE } from '../errors.ts'
import { type FilesOptions, KeptFile, type RunWithFile } from './kept-file.ts'

/**
 * Sends a kept file, or the part of it that is asked for: https://www.rfc-editor.org/rfc/rfc9110#section-14
 * Of several parts, the whole file: few clients ask for them, and fewer can read them. Never coded, so that a part is one of
 * the same bytes.
 */
export function sendRunFile(
  request: FastifyRequest,
  reply: FastifyReply,
  run: RunWithFile,
  csv: CsvOptions,
  options: FilesOptions & { internals: Internals }
): FastifyReply {
  const { report, rows, bytes, sha256 } = run
  const etag = `"${sha256}"`
  const headers: Record<string, string> = {
    etag,
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-transform',
    'repr-digest': `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`
  }
  if (hasEtag(request.headers['if-none-match'], etag)) return reply.code(304).headers(headers).send()
  const range = rangeOf(request, bytes, etag)
  if (range === 'unsatisfiable') {
    reply.header('content-range', `bytes */${bytes}`)
    throw new CSV_EXPORT_RANGE_NOT_SATISFIABLE(bytes)
  }
  const { start, end } = range ?? { start: 0, end: bytes - 1 }
  if (range !== undefined) {
    reply.code(206)
    headers['content-range'] = `bytes ${start}-${end}/${bytes}`
  }
  const chunks = () => new KeptFile(run, start, end + 1, reply.log, options)
  const length = end + 1 - start
  const file = { csv, report, headers, length, rows: length === bytes ? rows : 0 }
  return options.internals.sendFile(reply, chunks, file)
}

/** One range alone, and only if the file is the one that the client has begun with. */
function rangeOf(
  { method, headers }: FastifyRequest,
  size: number,
  etag: string
): Range | 'unsatisfiable' | undefined {
  const { range, 'if-range': ifRange } = headers
  if (range === undefined || method !== 'GET' || (ifRange !== undefined && ifRange !== etag)) return undefined
  if (!/^bytes=/i.test(range)) return undefined
  const { code, ranges } = parse(size, range)
  const [first, second] = ranges
  // The first bit of the code is for what is no range at all.
  if ((code & 1) !== 0 || second !== undefined) return undefined
  return first ?? (code === 0 ? undefined : 'unsatisfiable')
}

function hasEtag(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  return header === '*' || header.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag)
}
