import { join } from 'node:path'
import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import { buildApp } from './app.ts'
import { type EmbeddedPostgres, FolderUnusable, startEmbeddedPostgres } from './database/embedded-postgres.ts'
import { prepareDatabase } from './database/prepare.ts'

const { HOST = 'localhost', PORT = '3000', DATABASE_URL } = process.env

let app: FastifyInstance | undefined
let closing = false
let embedded: EmbeddedPostgres | undefined

// Before the database starts, so that a signal while it is being filled stops it too.
// Its own patience, in milliseconds, is more than that of the downloads and of the database together.
closeWithGrace({ delay: 30_000 }, async ({ err }) => {
  closing = true
  if (err) console.error(err instanceof FolderUnusable ? err.message : err)
  await app?.close()
  await embedded?.stop()
})

async function start(): Promise<void> {
  if (!DATABASE_URL) {
    embedded = await startEmbeddedPostgres({ folder: join(import.meta.dirname, '.postgres') })
  }
  const databaseUrl = DATABASE_URL || (embedded?.url as string)
  await prepareDatabase(databaseUrl, {
    onProgress: (done, total) => console.log(`sample data: ${done} of ${total} cargoes`)
  })
  app = await buildApp({ logger: true, databaseUrl })
  await app.listen({ host: HOST, port: Number(PORT) })
}

try {
  await start()
} catch (error) {
  // Stopped while it was starting: the database was taken away on purpose.
  if (!closing) throw error
}
