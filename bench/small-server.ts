import Fastify from 'fastify'

/** A server of one JSON route, with the plugin as it is published, or without it. */
const app = Fastify()
if (process.argv.includes('--plugin')) {
  const built = new URL('../dist/csv-export.mjs', import.meta.url).href
  await app.register(await import(built))
}
app.get('/json', async () => ({ hello: 'world' }))
console.log(await app.listen({ host: '127.0.0.1', port: 0 }))
