import { buildApp } from '../app.ts'
import { addProbes } from './probes.ts'

/** The sample server, which makes no runs itself: it takes them, and sends their files. */
const app = await buildApp({
  databaseUrl: process.env.DATABASE_URL as string,
  runs: { concurrency: 0, maxOpenPerOwner: 0 }
})
addProbes(app)

console.log(await app.listen({ host: '127.0.0.1', port: 0 }))
