import { type App, assertEnds, beside, bothOrders, official, serveBeside } from './beside.ts'
import { exports } from './exports.ts'

const response = {
  200: { description: 'the file', content: { 'text/csv': { schema: { type: 'string' } } } },
  '4xx': {
    type: 'object',
    required: ['message'],
    properties: { statusCode: { type: 'integer' }, error: { type: 'string' }, message: { type: 'string' } }
  }
}

/** As they are, but each of the routes has the schema. */
function described(app: App): void {
  app.addHook('onRoute', (route) => {
    if (/\.csv$/.test(route.url)) route.schema = { response }
  })
  exports(app)
}

beside('@fastify/swagger', 'a route says that it gives text/csv, and gives it', (t) =>
  bothOrders(t, async (t, order) => {
    const plugins = (app: App) => app.register(official('@fastify/swagger'), { openapi: {} })
    const server = await serveBeside(t, plugins, described, order)
    await assertEnds(t, server)
    const { responses } = (server.app.swagger() as any).paths['/whole.csv'].get
    t.strictSame(Object.keys(responses['200'].content), ['text/csv'])
    t.strictSame(Object.keys(responses['4XX'].content), ['application/json'])
  })
)

beside('@fastify/response-validation', 'it does not look into a stream', (t) =>
  bothOrders(t, async (t, order) => {
    const plugins = (app: App) => app.register(official('@fastify/response-validation'))
    const routes = (app: App) => {
      described(app)
      const impossible = { 200: { type: 'string', maxLength: 1 } }
      app.get('/longer', { schema: { response: impossible } }, (_request, reply) => reply.csv([{ id: 1 }]))
      app.get('/object', { schema: { response: impossible } }, async () => ({ id: 1 }))
    }
    const server = await serveBeside(t, plugins, routes, order)
    await assertEnds(t, server)
    t.equal((await fetch(`${server.url}/object`)).status, 500, 'as it does into what is no stream')
    const longer = await fetch(`${server.url}/longer`)
    t.equal(longer.status, 200)
    t.equal(await longer.text(), 'id\n1\n')
  })
)
