import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import Fastify, { type FastifyInstance } from 'fastify'
import csvExport, { type PluginOptions } from '../../plugins/csv-export/index.ts'

/** What a subject's own module says of the server that is attacked. */
export interface Subject {
  default: (app: FastifyInstance) => unknown
  /** Options of Fastify. */
  server?: object
  /** Options of the plugin. */
  defaults?: PluginOptions
}

/** A log that is written, as pino does its work only then. */
const log = new Writable({ write: (_line, _encoding, done) => done() })

// The process that an attack may end. It tells its parent the address, then each receipt, and what a subject has to say.
const [module, http] = process.argv.slice(2) as [string, string]
const { default: routes, server, defaults }: Subject = await import(module)
const app = Fastify({
  logger: { stream: log },
  http2: http === 'http2',
  ...server
} as object) as unknown as FastifyInstance
await app.register(csvExport, {
  closeGrace: 0,
  maxConcurrent: 1,
  // The attacker chooses it, to know the receipts of its own request.
  genExportId: ({ headers }) => String(headers['x-export']),
  onReceipt: (receipt) => process.send?.({ receipt }),
  ...defaults
})
await routes(app)
app.get('/next', (_request, reply) => reply.csv([{ id: 1 }]))
await app.listen({ host: '127.0.0.1', port: 0 })
process.send?.({ port: (app.server.address() as AddressInfo).port })
process.on('disconnect', () => process.exit())
