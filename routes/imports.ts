import { finished } from 'node:stream'
import createError from '@fastify/error'
import multipart, { type Multipart, type MultipartFile } from '@fastify/multipart'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type CargoCells, openCargoFile } from '../database/cargo-file.ts'
import { CargoFileError } from '../database/cargo-file-error.ts'
import { cargoColumns } from '../database/cargoes.ts'
import { borrow } from '../database/postgres.ts'

/** Largest file taken, in bytes. A file is never held in memory: this only bounds what one request may add. */
const maxFileSize = 10 * 1024 ** 3
const rowsPerInsert = 1_000
const progressEvery = 1_000
/** An upload that sends nothing for so long is given up, in milliseconds: its transaction holds a connection. */
const stalledAfter = 60_000
/** How long the rest of a refused upload is read and thrown away, so that the client gets to read why. */
const drainFor = 10_000

const NOT_A_FORM = createError(
  'NOT_A_FORM',
  'send the file as multipart/form-data: curl -N -F file=@cargoes.csv',
  415
)

const BROKEN_FORM = createError(
  'BROKEN_FORM',
  'the closing boundary of the form is missing: it was cut off, or its content-type names another boundary',
  400
)

export default async function imports(app: FastifyInstance): Promise<void> {
  await app.register(multipart, { limits: { fileSize: maxFileSize }, throwFileSizeLimit: false })

  app.post('/imports', { onRequest: refuseOthers, onError: letRead }, async (_request, reply) => {
    try {
      const upload = await openUpload(reply)
      const cargoes = await openCargoFile(upload.file.file)
      return reply.streamText(({ signal }) => importCargoes(app, upload, cargoes, signal), {
        heartbeat: { every: 15_000, text: '...\n' }
      })
    } catch (error) {
      throw uploadError(error) ?? error
    }
  })
}

interface Upload {
  reply: FastifyReply
  parts: AsyncGenerator<Multipart>
  file: MultipartFile
}

/**
 * Ahead of Fastify, which would answer other content types without a hint, or read them whole. A boundary has at most 70
 * characters, and its parser breaks on more than 252.
 */
async function refuseOthers(request: FastifyRequest): Promise<void> {
  if (/^multipart\/form-data *;.*boundary=.{1,200}$/i.test(request.headers['content-type'] ?? '')) return
  throw new NOT_A_FORM()
}

/** Whatever has refused the upload. Node closes a connection that is not kept as soon as the answer is sent. */
async function letRead(_request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const rest = drain(reply)
  if (!reply.raw.shouldKeepAlive) await rest
}

async function openUpload(reply: FastifyReply): Promise<Upload> {
  const parts = reply.request.parts() as AsyncGenerator<Multipart>
  for (;;) {
    const { done, value } = await parts.next()
    if (done) throw new CargoFileError('no file: send one as multipart/form-data, with a file name')
    if (value.type === 'file') return { reply, parts, file: value }
  }
}

/** The import, in one transaction; yields lines that say how far it has got, and at last how it ended. */
async function* importCargoes(
  app: FastifyInstance,
  upload: Upload,
  cargoes: AsyncGenerator<CargoCells>,
  signal: AbortSignal
): AsyncGenerator<string> {
  const { client, release } = await borrow(app.pg.pool)
  const onAbort = (): void => {
    release(signal.reason)
    upload.file.file.destroy(signal.reason)
  }
  signal.addEventListener('abort', onAbort)
  const onLost = (error: Error): void => void upload.file.file.destroy(error)
  client.on('error', onLost)
  let failure: Error | undefined = new Error('the import was left')
  try {
    signal.throwIfAborted()
    await client.query('BEGIN')
    await client.query(`SET LOCAL idle_in_transaction_session_timeout = ${stalledAfter}`)
    const { rows } = await client.query('INSERT INTO imports (file_name) VALUES ($1) RETURNING id', [
      upload.file.filename.replaceAll('\0', '')
    ])
    const { id } = rows[0] as { id: number }
    yield `import ${id} begins\n`
    let count = 0
    let told = Date.now()
    for await (const batch of batches(cargoes)) {
      await client.query(insertBatch, [id, ...columnsOf(batch)])
      count += batch.length
      if (Date.now() - told < progressEvery) continue
      told = Date.now()
      yield `${count} rows\n`
    }
    await finishUpload(upload)
    signal.throwIfAborted()
    await client.query('COMMIT')
    failure = undefined
    yield `import ${id}: ${count} rows\n`
  } catch (error) {
    const mistake = uploadError(error)
    if (mistake === undefined || signal.aborted) throw error
    await client.query('ROLLBACK')
    failure = undefined
    release()
    yield `error: ${mistake.message}; nothing was imported\n`
    await drain(upload.reply)
  } finally {
    signal.removeEventListener('abort', onAbort)
    client.off('error', onLost)
    // Closed with its transaction open, a connection takes back what it did.
    release(failure)
  }
}

/** Lines until there are enough for one insert, or until one second's worth of a slow upload. */
async function* batches(cargoes: AsyncGenerator<CargoCells>): AsyncGenerator<CargoCells[]> {
  let batch: CargoCells[] = []
  let begun = Date.now()
  for await (const cargo of cargoes) {
    batch.push(cargo)
    if (batch.length < rowsPerInsert && Date.now() - begun < progressEvery) continue
    yield batch
    batch = []
    begun = Date.now()
  }
  if (batch.length > 0) yield batch
}

function columnsOf(batch: CargoCells[]): (string | null)[][] {
  return cargoColumns.map((_name, index) => batch.map((cells) => cells[index] as string | null))
}

const insertBatch = `
  INSERT INTO cargoes (import_id, ${cargoColumns.join(', ')})
  SELECT $1, ${cargoColumns.join(', ')}
  FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::timestamptz[], $8::date[])
    WITH ORDINALITY AS line (${cargoColumns.join(', ')}, position)
  ORDER BY position
`

/** An upload is whole only with its closing boundary; nothing may follow the file. */
async function finishUpload({ parts, file }: Upload): Promise<void> {
  if (file.file.truncated) throw new CargoFileError(`the file is larger than ${maxFileSize} bytes`)
  for (;;) {
    const { done, value } = await parts.next()
    if (done) return
    if (value.type === 'file') throw new CargoFileError('one file at a time: a second one follows the first')
  }
}

/** What the client did wrong, as against what went wrong here. The parser's own errors have no status. */
function uploadError(error: unknown): Error | undefined {
  const { statusCode = 500, message } = error as Error & { statusCode?: number }
  if (/end of multipart data/.test(message)) return new BROKEN_FORM()
  return statusCode < 500 ? (error as Error) : undefined
}

/**
 * A client may not read an answer before it has sent all it has: what it still sends is thrown away, for a while.
 * One that goes on for longer gets its answer then, and is cut off.
 */
function drain({ request: { raw }, raw: answer }: FastifyReply): Promise<void> {
  return new Promise((resolve) => {
    if (raw.readableEnded || raw.destroyed) {
      resolve()
      return
    }
    const timer = setTimeout(() => {
      resolve()
      finished(answer, () => raw.destroy())
    }, drainFor)
    timer.unref()
    raw.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
    raw.unpipe()
    raw.resume()
  })
}
