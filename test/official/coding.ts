import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import { constants, createGunzip } from 'node:zlib'
import type { Test } from 'tap'
import { curl, gate } from '../helper.ts'
import { type App, assertEnds, beside, bothOrders, official, serveBeside } from './beside.ts'
import { exports } from './exports.ts'

/** A first row, and a second one when the first has been read. */
function heldRoute(app: App, options: object) {
  const last = gate()
  app.get('/held.csv', (_request, reply) =>
    reply.csv(async function* () {
      yield { id: 1, text: 'x'.repeat(2_000) }
      await last.opened
      yield { id: 2, text: '' }
    }, options)
  )
  return last
}

/** Whether a client that takes gzip gets the first row while the second is still to come. */
async function assertFirstRow(
  t: Test,
  url: string,
  last: { open: () => void },
  comes: boolean
): Promise<void> {
  const client = spawn('curl', ['-sSN', '-H', 'accept-encoding: gzip', url], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let text = ''
  const gunzip = client.stdout.pipe(createGunzip()).on('data', (chunk) => {
    text += chunk
  })
  if (comes) await once(gunzip, 'data')
  // Nothing tells that something does not come.
  else await setTimeout(500)
  t.equal(text !== '', comes, comes ? 'the first row comes alone' : 'the first row is held back')
  const ended = once(gunzip, 'end')
  last.open()
  await ended
  t.equal(text, `id,text\n1,${'x'.repeat(2_000)}\n2,\n`)
}

beside('@fastify/compress', 'one of the two codes the body, and a break is seen', (t) =>
  bothOrders(t, async (t, order) => {
    const plugins = (app: App) => app.register(official('@fastify/compress'), { threshold: 0 })
    const ours = await serveBeside(t, plugins, exports, order)
    await assertEnds(t, ours)
    const theirs = await serveBeside(t, plugins, exports, { ...order, defaults: { compress: false } })
    await assertEnds(t, theirs)
    t.equal((await curl('--compressed', `${ours.url}/late.csv`)).code, 56)
    // It still holds the first row, so nothing has gone.
    t.equal((await curl('--compressed', '--fail', `${theirs.url}/late.csv`)).code, 22)
  })
)

beside('@fastify/compress', 'rows come at a pause: from us, or from it with a flush', async (t) => {
  const { Z_SYNC_FLUSH } = constants
  for (const [settings, options, comes] of [
    [{}, {}, true],
    [{}, { compress: false }, false],
    [{ zlibOptions: { flush: Z_SYNC_FLUSH } }, { compress: false }, true]
  ] as const) {
    let last = gate()
    const plugins = (app: App) =>
      app.register(official('@fastify/compress'), { ...settings, encodings: ['gzip'] })
    const { url } = await serveBeside(t, plugins, (app) => {
      last = heldRoute(app, options)
    })
    await assertFirstRow(t, `${url}/held.csv`, last, comes)
  }
})

/** Takes back what @fastify/express has put in its place. With @fastify/middie there is nothing to take back. */
function ownHeadersSent(_request: unknown, response: any, next: () => void): void {
  delete response.headersSent
  next()
}

beside('@fastify/express', 'compression() breaks each reply that takes two writes', async (t) => {
  const plugins = async (app: App) => {
    await app.register(official('@fastify/express'))
    app.use(official('compression')())
  }
  const { url, receipt } = await serveBeside(t, plugins, exports)
  const told = receipt()
  t.equal((await curl(`${url}/whole.csv`)).code, 56)
  t.match(await told, { status: 'source_failed', errorCode: 'ERR_HTTP_HEADERS_SENT' })
})

for (const name of ['@fastify/express', '@fastify/middie']) {
  beside(name, 'exports are as they are without it, beside compression() too', (t) =>
    bothOrders(t, async (t, order) => {
      for (const middleware of [undefined, official('compression')()]) {
        for (const compress of [true, false]) {
          if (middleware === undefined && !compress) continue
          const plugins = async (app: App) => {
            await app.register(official(name))
            app.use((_request: unknown, response: any, next: () => void) => {
              response.setHeader('x-middleware', 'ran')
              next()
            })
            if (middleware !== undefined) app.use(ownHeadersSent).use(middleware)
          }
          const server = await serveBeside(t, plugins, exports, { ...order, defaults: { compress } })
          const { headers } = await assertEnds(t, server)
          t.equal(headers.get('x-middleware'), 'ran')
          t.equal((await curl('--compressed', `${server.url}/late.csv`)).code, 56)
        }
      }
    })
  )

  beside(name, 'rows come at a pause, unless compression() codes them', async (t) => {
    for (const compress of [true, false]) {
      let last = gate()
      const plugins = async (app: App) => {
        await app.register(official(name))
        app.use(ownHeadersSent).use(official('compression')())
      }
      const { url } = await serveBeside(t, plugins, (app) => {
        last = heldRoute(app, { compress })
      })
      await assertFirstRow(t, `${url}/held.csv`, last, compress)
    }
  })
}
