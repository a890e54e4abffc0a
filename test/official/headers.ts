import { setTimeout } from 'node:timers/promises'
import { temporaryFolder } from '../database.ts'
import { curl } from '../helper.ts'
import { Chromium } from '../long/chromium.ts'
import { skipWithout } from '../programs.ts'
import { type App, assertEnds, beside, bothOrders, official, serveBeside } from './beside.ts'
import { exports, whole } from './exports.ts'

beside('@fastify/cookie', 'cookies are on the reply', (t) =>
  bothOrders(t, async (t, order) => {
    const plugins = async (app: App) => {
      await app.register(official('@fastify/cookie'), { secret: 'a secret' })
      app.addHook('onRequest', async (_request: any, reply: any) => {
        reply.setCookie('seen', 'yes', { signed: true })
      })
    }
    const server = await serveBeside(t, plugins, exports, order)
    const { headers, early } = await assertEnds(t, server)
    for (const sent of [headers, early.headers]) t.match(sent.get('set-cookie'), /^seen=yes\..+/)
  })
)

beside('@fastify/session', 'the session is saved before the first row', (t) =>
  bothOrders(t, async (t, order) => {
    const plugins = async (app: App) => {
      await app.register(official('@fastify/cookie'))
      await app.register(official('@fastify/session'), {
        secret: 'a secret that has more than 32 letters',
        cookie: { secure: false }
      })
      app.addHook('preHandler', async ({ session }: any) => {
        session.visits = (session.visits ?? 0) + 1
      })
      app.get('/visits', async ({ session }: any) => session.visits)
    }
    const server = await serveBeside(t, plugins, exports, order)
    const first = await fetch(`${server.url}/whole.csv`)
    const cookie = String(first.headers.get('set-cookie')).split(';')[0] as string
    t.match(cookie, /^sessionId=/)
    await first.text()
    await assertEnds(t, server, { cookie })
    const visits = await fetch(`${server.url}/visits`, { headers: { cookie } })
    // One of ours, those of the ends, this.
    t.equal(await visits.text(), '7')
  })
)

beside('@fastify/helmet', 'its headers are on the reply', (t) =>
  bothOrders(t, async (t, order) => {
    const server = await serveBeside(t, (app) => app.register(official('@fastify/helmet')), exports, order)
    const { headers, early } = await assertEnds(t, server)
    for (const sent of [headers, early.headers]) {
      t.match(sent.get('content-security-policy'), /default-src/)
      t.equal(sent.get('x-content-type-options'), 'nosniff')
    }
    t.equal(headers.get('cache-control'), 'no-store')
  })
)

/** Keeps text, as all stores do but the one in memory, which keeps the session itself. */
class TextStore {
  readonly #kept = new Map<string, string>()
  set(id: string, session: object, done: () => void): void {
    this.#kept.set(id, JSON.stringify(session))
    done()
  }
  get(id: string, done: (error: null, session?: object) => void): void {
    const text = this.#kept.get(id)
    done(null, text === undefined ? undefined : JSON.parse(text))
  }
  destroy(id: string, done: () => void): void {
    this.#kept.delete(id)
    done()
  }
}

beside('@fastify/session', 'what is changed while rows stream needs its own save()', async (t) => {
  const plugins = async (app: App) => {
    await app.register(official('@fastify/cookie'))
    await app.register(official('@fastify/session'), {
      secret: 'a secret that has more than 32 letters',
      cookie: { secure: false },
      store: new TextStore()
    })
  }
  const { url } = await serveBeside(t, plugins, (app) => {
    for (const saves of [false, true])
      app.get(`/${saves ? 'saved' : 'unsaved'}.csv`, ({ session }: any, reply) => {
        session.begun = true
        return reply.csv(async function* () {
          yield { id: 1 }
          session.rows = 1
          if (saves) await session.save()
        })
      })
    app.get('/', async ({ session }: any) => ({ begun: session.begun, rows: session.rows }))
  })
  for (const [path, rows] of [
    ['unsaved', undefined],
    ['saved', 1]
  ]) {
    const response = await fetch(`${url}/${path}.csv`)
    await response.text()
    const cookie = String(response.headers.get('set-cookie')).split(';')[0] as string
    t.strictSame(
      await (await fetch(url, { headers: { cookie } })).json(),
      rows ? { begun: true, rows } : { begun: true }
    )
  }
})

beside('@fastify/cors', 'its headers are on the reply', (t) =>
  bothOrders(t, async (t, order) => {
    const plugins = (app: App) => app.register(official('@fastify/cors'), { origin: [/example\.com$/] })
    const server = await serveBeside(t, plugins, exports, order)
    const { headers, early } = await assertEnds(t, server, { origin: 'https://example.com' })
    for (const sent of [headers, early.headers])
      t.equal(sent.get('access-control-allow-origin'), 'https://example.com')
    t.same(String(headers.get('vary')).toLowerCase().split(', ').sort(), ['accept-encoding', 'origin'])
  })
)

const skip = skipWithout('Chromium (chromium)', 'chromium', '--version')

beside('@fastify/cors', 'a page of another origin sees the headers that are exposed', { skip }, async (t) => {
  const page = await serveBeside(
    t,
    () => {},
    (app) => app.get('/', (_request, reply) => reply.type('text/html').send('<!doctype html>'))
  )
  const chromium = await Chromium.start(t, await temporaryFolder(t))
  await chromium.open(page.url)
  for (const [settings, filename] of [
    [{}, null],
    [
      { exposedHeaders: ['Content-Disposition', 'Export-Id', 'Retry-After'] },
      'attachment; filename=whole.csv'
    ]
  ] as const) {
    const plugins = (app: App) => app.register(official('@fastify/cors'), { origin: page.url, ...settings })
    const { url, receipt } = await serveBeside(t, plugins, exports)
    const told = receipt()
    const seen = await chromium.evaluate(`fetch('${url}/whole.csv').then(async (response) => ({
      filename: response.headers.get('content-disposition'),
      id: response.headers.get('export-id'),
      length: (await response.text()).length
    }))`)
    t.same(seen, { filename, id: filename && (await told).id, length: whole.length })
    const error = await chromium.evaluate(
      `fetch('${url}/late.csv').then((response) => response.text()).catch(({ name }) => name)`
    )
    t.equal(error, 'TypeError', 'and a break')
  }
})

beside('@fastify/etag', 'a stream gets no ETag; one of the route is answered with 304 and no rows', (t) =>
  bothOrders(t, async (t, order) => {
    let opened = 0
    const routes = (app: App) => {
      exports(app)
      app.get('/tagged.csv', (_request, reply) => {
        reply.header('etag', '"version 7"')
        return reply.csv(() => {
          opened++
          return [{ id: 1 }]
        })
      })
    }
    const plugins = (app: App) => app.register(official('@fastify/etag'))
    const server = await serveBeside(t, plugins, routes, order)
    const { headers } = await assertEnds(t, server)
    t.equal(headers.get('etag'), null)

    const first = await fetch(`${server.url}/tagged.csv`)
    t.equal(await first.text(), 'id\n1\n')
    t.equal(first.headers.get('etag'), '"version 7"')
    const again = await fetch(`${server.url}/tagged.csv`, { headers: { 'if-none-match': '"version 7"' } })
    t.equal(again.status, 304)
    t.equal(again.headers.get('export-id'), null)
    t.equal(opened, 1)
    t.same(server.app.csvExports.running(), [])
  })
)

beside('@fastify/caching', 'its Cache-Control takes the place of no-store, but on errors', (t) =>
  bothOrders(t, async (t, order) => {
    const plugins = (app: App) =>
      app.register(official('@fastify/caching'), { privacy: 'private', expiresIn: 300 })
    const routes = (app: App) => {
      exports(app)
      app.get('/own.csv', (_request, reply) => reply.header('cache-control', 'no-store').csv([{ id: 1 }]))
    }
    const server = await serveBeside(t, plugins, routes, order)
    const { headers, early } = await assertEnds(t, server)
    t.equal(headers.get('cache-control'), 'private, max-age=300')
    t.equal(early.headers.get('cache-control'), 'no-store')
    t.equal((await fetch(`${server.url}/own.csv`)).headers.get('cache-control'), 'no-store')
  })
)

beside('@fastify/caching', 'a tag is kept before the rows, also of an export that breaks', async (t) => {
  const plugins = (app: App) => app.register(official('@fastify/caching'))
  const { url } = await serveBeside(t, plugins, (app) => {
    app.get('/', (_request, reply: any) =>
      reply.etag('7').csv(async function* () {
        yield { id: 1 }
        await setTimeout(20)
        throw new Error('late')
      })
    )
  })
  t.equal((await curl(url)).code, 56)
  t.equal((await fetch(url, { headers: { 'if-none-match': '7' } })).status, 304)
})
