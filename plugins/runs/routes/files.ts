import type { FastifyReply, FastifyRequest } from 'fastify'
import { parse, type Range } from 'range-parser'
import type { CsvOptions, Internals } from '../../csv-export/index.ts'
import type { FileStore } from '../files/files.ts'
import type { RunRow, Runs } from '../runs.ts'

/** Milliseconds that a file outlives its run for a reader that has begun, and between two words of it that it still reads. */
const readerGrace = 600_000
const readerInterval = 60_000

/**
 * Sends a kept file, or the part of it that is asked for: https://www.rfc-editor.org/rfc/rfc9110#section-14
 * Of several parts, the whole file: few clients ask for them, and fewer can read them. Never coded, so that a part is one of
 * the same bytes.
 */
export function sendRunFile(
  request: FastifyRequest,
  reply: FastifyReply,
  run: RunRow,
  csv: CsvOptions,
  { runs, files, internals }: { runs: Runs; files: FileStore; internals: Internals }
): FastifyReply {
  const { bytes, sha256, file_id: fileId } = run as RunRow & { sha256: string; file_id: string }
  const etag = `"${sha256}"`
  reply
    .header('etag', etag)
    .header('accept-ranges', 'bytes')
    .header('cache-control', 'private, no-transform')
    .header('repr-digest', `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`)
  if (hasEtag(request.headers['if-none-match'], etag)) return reply.code(304).send()
  const range = rangeOf(request, bytes, etag)
  if (range === 'unsatisfiable') {
    reply.header('content-range', `bytes */${bytes}`)
    return reply.code(416).send(new RangeError(`the file has ${bytes} bytes`))
  }
  const { start, end } = range ?? { start: 0, end: bytes - 1 }
  if (range !== undefined) reply.code(206).header('content-range', `bytes ${start}-${end}/${bytes}`)
  const chunks = () =>
    readKept(files.read(fileId, start, end + 1), () => runs.keepForReader(run.id, readerGrace))
  const { report, rows } = run
  const length = end + 1 - start
  return internals.sendFile(reply, chunks, { csv, report, length, rows: length === bytes ? rows : 0 })
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
  return header.split(',').some((tag) => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === etag)
}

/** Has the file kept while it is read. */
async function* readKept(chunks: AsyncIterable<Buffer>, keep: () => Promise<void>): AsyncGenerator<Buffer> {
  let keptAt = Number.NEGATIVE_INFINITY
  for await (const chunk of chunks) {
    if (performance.now() - keptAt >= readerInterval) {
      await keep()
      keptAt = performance.now()
    }
    yield chunk
  }
}
