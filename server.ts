import { buildApp } from './app.ts'

const { HOST = 'localhost', PORT = '3000' } = process.env

const app = await buildApp({ logger: true })
await app.listen({ host: HOST, port: Number(PORT) })
