import { join } from 'node:path'
import closeWithGrace from 'close-with-grace'
import { buildApp } from './app.ts'
import { prepareDatabase } from './database/prepare.ts'
import { startEmbeddedPostgres } from './plugins/embedded-postgres.ts'

const { HOST = 'localhost', PORT = '3000', DATABASE_URL } = process.env

const embedded = DATABASE_URL
  ? undefined
  : await startEmbeddedPostgres({ folder: join(import.meta.dirname, '.postgres') })
const databaseUrl = embedded?.url ?? (DATABASE_URL as string)

await prepareDatabase(databaseUrl, {
  onProgress: (done, total) => console.log(`sample data: ${done} of ${total} cargoes`)
})
const app = await buildApp({ logger: true, databaseUrl })
closeWithGrace({ logger: app.log }, async ({ err }) => {
  if (err) app.log.error(err)
  await app.close()
  await embedded?.stop()
})
await app.listen({ host: HOST, port: Number(PORT) })
