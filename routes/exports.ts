import createError from '@fastify/error'
import type { FastifyInstance } from 'fastify'
import type { ExportStart, ReceiptStore } from '../plugins/csv-export/index.ts'

/** A store that may also know what has no receipt, such as what ran in a server that was killed. */
export interface Receipts extends ReceiptStore {
  startOf?(id: string): Promise<ExportStart | undefined>
}

export interface ExportsOptions {
  receipts: Receipts
}

const UNKNOWN_EXPORT = createError(
  'UNKNOWN_EXPORT',
  'nothing is on record of export %s: none began with this id, or its record is gone',
  404
)

const EXPORT_WITHOUT_END = createError(
  'EXPORT_WITHOUT_END',
  'export %s of %s began at %s and has no end on record: it still runs, or its server was killed',
  404
)

const schema = {
  // The format takes the longer urn:uuid: form too.
  params: { type: 'object', properties: { id: { type: 'string', format: 'uuid', maxLength: 36 } } },
  querystring: { type: 'object', additionalProperties: false }
}

export default async function exports(app: FastifyInstance, { receipts }: ExportsOptions): Promise<void> {
  app.get<{ Params: { id: string } }>('/exports/:id', { schema }, async (request, reply) => {
    // Upper case is the same UUID: https://www.rfc-editor.org/rfc/rfc9562#section-4
    const id = request.params.id.toLowerCase()
    // Looked for first: it may end while its receipt is.
    const running = app.csvExports.running().find((one) => one.id === id)
    const receipt = await receipts.get(id)
    if (receipt === undefined) throw without(id, running ?? (await receipts.startOf?.(id)))
    return reply.header('cache-control', 'no-store').send(receipt)
  })
}

function without(id: string, start: ExportStart | undefined): Error {
  return start === undefined
    ? new UNKNOWN_EXPORT(id)
    : new EXPORT_WITHOUT_END(id, start.report, start.startedAt)
}
