import createError from '@fastify/error'
import type { FastifyInstance } from 'fastify'
import type { ReceiptStore } from '../plugins/csv-export/index.ts'

export interface ExportsOptions {
  receipts: ReceiptStore
}

const UNKNOWN_EXPORT = createError(
  'UNKNOWN_EXPORT',
  'there is no receipt of export %s: it may still be running, or be too old',
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
    const receipt = await receipts.get(id)
    if (receipt === undefined) throw new UNKNOWN_EXPORT(id)
    return reply.header('cache-control', 'no-store').send(receipt)
  })
}
