import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Agent, createServer, get, type IncomingMessage, type Server } from 'node:http'
import { connect, createServer as createHttp2Server, type ServerHttp2Session } from 'node:http2'
import { type AddressInfo, connect as connectSocket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import csvExport, { type Receipt } from '../../../../plugins/csv-export/index.ts'
import { endWithServer } from '../../../../plugins/csv-export/reply/shutdown.ts'
import { curl, gate, serve } from '../../../helper.ts'
import { makeCertificate } from '../../../interop/servers.ts'
import { skipWithout } from '../../../programs.ts'

const request = (url: string, agent: Agent) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    get(url, { agent }, resolve).on('error', reject)
  })

function running() {
  const finish = gate()
  const receipt = gate<Receipt>()
  return {
    finish: finish.open,
    receipt: receipt.opened,
    onReceipt: receipt.open,
    async *rows() {
      yield ['first']
      await finish.opened
      yield ['last']
    }
  }
}

t.test('an export that finishes in time is whole; meanwhile new ones are refused', async (t) => {
  const { rows, finish, receipt, onReceipt } = running()
  const { app, url } = await serve(
    t,
    (app) => {
      app.get('/', (_request, reply) => reply.csv(rows(), { header: false, onReceipt }))
      app.get('/json', async () => ({}))
    },
    { defaults: { closeGrace: 8_000 } }
  )
  // Kept alive, so that the closing server can still be asked.
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  const other = await request(`${url}/json`, agent)
  other.resume()
  await once(other, 'end')
  const download = await fetch(url)
  const closed = app.close()
  const refused = await request(url, agent)
  t.equal(refused.statusCode, 503)
  t.equal(refused.headers['retry-after'], '10')
  refused.resume()
  finish()
  t.equal(await download.text(), 'first\nlast\n')
  t.match(await receipt, { status: 'complete' })
  const before = performance.now()
  await closed
  t.ok(performance.now() - before < 1_000, 'no wait for connections that are kept alive')
})

t.test('a reply that is made while the server closes', async (t) => {
  const arrived = gate()
  const reply = gate()
  const { app, url } = await serve(t, (app) => {
    // It comes after the plugin's own.
    app.addHook('preClose', async () => reply.open())
    app.get('/', async (_request, answer) => {
      arrived.open()
      await reply.opened
      return answer.csv([['never']], { header: false })
    })
  })
  const response = fetch(url)
  await arrived.opened
  const closed = app.close()
  t.equal((await response).status, 503)
  t.equal((await response).headers.get('retry-after'), '10')
  t.match(await (await response).json(), { code: 'CSV_EXPORT_SERVER_CLOSING' })
  await closed
})

for (const [protocol, options] of Object.entries({
  'HTTP/1.0': ['--http1.0'],
  'HTTP/1.1': [],
  'HTTP/2': ['--http2-prior-knowledge']
})) {
  t.test(`an export that does not finish is broken: ${protocol}`, async (t) => {
    const { rows, receipt, onReceipt } = running()
    const started = gate()
    const { app, url, log } = await serve(
      t,
      (app) =>
        app.get('/', (_request, reply) => {
          started.open()
          return reply.csv(rows(), { header: false, onReceipt })
        }),
      { http2: protocol === 'HTTP/2', defaults: { closeGrace: 100 } }
    )
    const download = curl(...options, url)
    await started.opened
    const before = performance.now()
    await app.close()
    const took = performance.now() - before
    t.ok(took < 1_100, `closed after ${took} ms`)
    t.not((await download).code, 0)
    t.match(await receipt, { status: 'server_closing', errorCode: 'CSV_EXPORT_SERVER_CLOSING' })
    t.match(await log.find(/server_closing/), { level: 40 })
  })
}

t.test('an idle HTTP/2 session does not keep the server open', async (t) => {
  const { app, url } = await serve(t, (app) => app.get('/', (_request, reply) => reply.csv([{ a: 1 }])), {
    http2: true
  })
  const session = connect(url)
  const stream = session.request({ ':path': '/' }).resume()
  await once(stream, 'close')
  const closed = once(session, 'close')
  const before = performance.now()
  await app.close()
  t.ok(performance.now() - before < 1_000)
  await closed
})

t.test(
  'an HTTP/2 session whose TLS handshake ends after the close does not keep the server open',
  { skip: skipWithout('openssl', 'openssl', 'version'), timeout: 10_000 },
  async (t) => {
    const { key, certificate, remove } = makeCertificate()
    t.teardown(remove)
    const https = { key: readFileSync(key), cert: readFileSync(certificate) }
    const refuse = (session: ServerHttp2Session) => session.destroy()
    for (const limit of [undefined, refuse]) {
      const { app, url } = await serve(t, () => {}, { http2: true, server: { https } })
      // As one who limits sessions does, in a listener that comes first.
      if (limit) app.server.prependListener('session', limit)
      const accepted = once(app.server, 'connection')
      const socket = connectSocket(Number(new URL(url).port), '127.0.0.1')
      await accepted
      const closed = app.close()
      // The port is given back before the connections are waited for.
      while (app.server.listening) await new Promise(setImmediate)
      const secure = connectTls({ socket, ALPNProtocols: ['h2'], rejectUnauthorized: false })
      const session = connect(url, { createConnection: () => secure })
      session.on('error', () => {})
      await Promise.all([closed, once(session, 'close')])
    }
  }
)

t.test('a session that a listener ahead has refused is left alone', async (t) => {
  const { app, url } = await serve(t, () => {}, { http2: true })
  app.server.prependListener('session', (session: ServerHttp2Session) => session.destroy())
  const session = connect(url)
  session.on('error', () => {})
  await once(session, 'close')
})

t.test('several contexts that have the plugin share one grace', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const statuses: string[] = []
  for (const path of ['/a', '/b', '/c']) {
    await app.register(async (context) => {
      await context.register(csvExport, { closeGrace: 500, onReceipt: ({ status }) => statuses.push(status) })
      context.get(path, (_request, reply) => reply.csv(running().rows(), { header: false }))
    })
  }
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const downloads = await Promise.all(['/a', '/b', '/c'].map((path) => fetch(url + path)))
  const broken = downloads.map((download) => t.rejects(download.text()))
  const before = performance.now()
  await app.close()
  t.ok(performance.now() - before < 1_400, 'not one after the other')
  await Promise.all(broken)
  t.same(statuses, Array(3).fill('server_closing'))
})

t.test('a server that never listened, and one with nothing to do', async (t) => {
  const app = Fastify()
  await app.register(csvExport)
  await app.close()
  const { app: idle } = await serve(t, () => {}, { defaults: { closeGrace: 8_000 } })
  const before = performance.now()
  await idle.close()
  t.ok(performance.now() - before < 1_000)
})

t.test('receipts that are being kept are waited for', async (t) => {
  const kept: Receipt[] = []
  const { rows } = running()
  const { app, url } = await serve(
    t,
    (app) => app.get('/', (_request, reply) => reply.csv(rows(), { header: false })),
    {
      defaults: {
        receipts: {
          async put(receipt) {
            await new Promise((resolve) => setTimeout(resolve, 50))
            kept.push(receipt)
          },
          get: () => undefined
        }
      }
    }
  )
  const response = await fetch(url)
  await app.close()
  t.match(kept, [{ status: 'server_closing' }])
  await t.rejects(response.text())
})

t.test('closeGrace fits into the time that Fastify gives a hook', async (t) => {
  const register = async (pluginTimeout: number, closeGrace?: number) => {
    const app = Fastify({ pluginTimeout })
    app.register(csvExport, { closeGrace })
    await app.ready()
    await app.close()
  }
  await t.rejects(register(10_000, 9_001), {
    code: 'CSV_EXPORT_INVALID_OPTION',
    message: /"closeGrace" must be at most 9000, as Fastify's pluginTimeout is 10000.*got 9001/
  })
  await register(10_000, 9_000)
  await register(60_000, 59_000)
  await register(0, 600_000)
  await register(0)
  await register(2_000)
})

t.test(
  'a session that is over, and whose client has not closed its side, does not keep a server open',
  async (t) => {
    const { app, url } = await serve(t, () => {}, { http2: true })
    const socket = connectSocket({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true })
    socket.on('error', () => {}).resume()
    const emptySettings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])
    socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), emptySettings]))
    const [session] = await once(app.server, 'session')
    session.destroy()
    const closed = app.close()
    while (app.server.listening) await new Promise(setImmediate)
    socket.destroy()
    await closed
  }
)

t.test(
  'a preClose hook that comes first and fails, or takes too long, keeps no export running',
  async (t) => {
    const hooks = {
      fails: () => Promise.reject(new Error('its own')),
      'takes too long': () => new Promise<void>(() => {})
    }
    for (const [name, hook] of Object.entries(hooks)) {
      for (const http2 of [false, true]) {
        const { opened: receipt, open: onReceipt } = gate<Receipt>()
        // Fastify has types of its own for HTTP/2.
        const app = Fastify({ pluginTimeout: 1_100, forceCloseConnections: false, http2 } as object)
        app.addHook('preClose', hook)
        await app.register(csvExport, { closeGrace: 50, onReceipt })
        app.get('/', (_request, reply) =>
          reply.csv(async function* ({ signal }) {
            yield { a: 1 }
            await once(signal, 'abort')
          })
        )
        const url = await app.listen({ host: '127.0.0.1', port: 0 })
        const session = http2 ? connect(url) : undefined
        session?.on('error', () => {})
        const response = session?.request({ ':path': '/' }) ?? (await request(url, new Agent()))
        response.on('error', () => {})
        const ended = new Promise((resolve) => response.once('close', resolve))
        await once(response, 'data')
        await t.rejects(app.close(), `${name}, ${http2}`)
        t.match(await receipt, { status: 'server_closing' })
        await ended
      }
    }
  }
)

/** As @fastify/restartable has one: it goes on when an app on it closes. */
async function lastingServer(t: Test, http2: boolean) {
  const server = (http2 ? createHttp2Server() : createServer()) as Server & { keepAliveTimeoutBuffer: number }
  const { close } = server
  let isLasting = true
  Object.assign(server, {
    close: (callback: () => void) => (isLasting ? callback() : close.call(server, callback))
  })
  const reallyClose = () => {
    isLasting = false
    server.close(() => {})
    isLasting = true
  }
  t.teardown(reallyClose)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const handlers: (() => void)[] = []
  const serverFactory = (handler: () => void) => {
    for (const other of handlers.splice(0)) server.off('request', other)
    handlers.push(handler)
    return server.on('request', handler)
  }
  return {
    server,
    close: reallyClose,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    app: () => Fastify({ http2, serverFactory, forceCloseConnections: false } as object),
    state: () => [
      server.keepAliveTimeout,
      server.keepAliveTimeoutBuffer,
      ...['session', 'request', 'clientError'].map((event) => server.listenerCount(event))
    ]
  }
}

t.test('a server that goes on with another app is as it was', async (t) => {
  for (const http2 of [false, true]) {
    const { app: makeApp, server, url, state } = await lastingServer(t, http2)
    const [keepAliveTimeout, keepAliveTimeoutBuffer] = state()
    const session = http2 ? connect(url) : undefined
    for (let round = 0; round < 3; round++) {
      const app = makeApp()
      await app.register(csvExport)
      app.addHook('onClose', async () => {
        t.equal(server.keepAliveTimeout, keepAliveTimeout, 'not even while one closes')
        await new Promise(setImmediate)
        t.not(session?.closed, true)
      })
      app.get('/', (_request, reply) => reply.csv([{ id: 1 }]))
      await app.ready()
      const { body } = await curl(http2 ? '--http2-prior-knowledge' : '--http1.1', url)
      t.equal(body, 'id\n1\n')
      await app.close()
    }
    // One listener for the sessions of all apps. Fastify leaves its own for 'clientError'.
    t.same(state(), [keepAliveTimeout, keepAliveTimeoutBuffer, 1, 1, 3])
    session?.destroy()
  }
})

t.test('a server that listens again after its close is as it was', async (t) => {
  for (const http2 of [false, true]) {
    const { app: makeApp, server, close, url } = await lastingServer(t, http2)
    const { keepAliveTimeout, keepAliveTimeoutBuffer } = server
    const { port } = server.address() as AddressInfo
    for (let round = 0; round < 2; round++) {
      const app = makeApp()
      // In two contexts, as each has a close of its own.
      for (const path of ['/a', '/b']) {
        await app.register(async (context) => {
          await context.register(csvExport)
          context.get(path, (_request, reply) => reply.csv([{ id: 1 }]))
        })
      }
      await app.ready()
      const { body } = await curl(http2 ? '--http2-prior-knowledge' : '--http1.1', `${url}/a`)
      t.equal(body, 'id\n1\n')
      await app.close()
      close()
      close()
      if (!http2) t.equal(server.keepAliveTimeout, 1)
      // Whoever has it listen again may set it.
      const own = round === 1 ? 30_000 : keepAliveTimeout
      if (round === 1) server.keepAliveTimeout = own
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
      t.equal(server.keepAliveTimeout, own)
      if (round === 0) t.equal(server.keepAliveTimeoutBuffer, keepAliveTimeoutBuffer)
    }
  }
})

t.test('apps that fail before they are ready leave nothing on their server', async (t) => {
  const { app: makeApp, state } = await lastingServer(t, false)
  for (let round = 0; round < 3; round++) {
    const app = makeApp()
    app.register(csvExport)
    app.register(async () => {
      throw new Error('its own')
    })
    await t.rejects(async () => void (await app.ready()), { message: 'its own' })
  }
  t.same(state().slice(2), [0, 1, 3])
})

t.test("an app's grace begins with its own close, be its server another's, too", async (t) => {
  const { app: makeApp } = await lastingServer(t, false)
  const passed: number[] = []
  for (let round = 0; round < 2; round++) {
    const app = makeApp()
    endWithServer(app, async (milliseconds) => {
      passed.push(milliseconds)
    })
    await app.ready()
    await app.close()
  }
  t.same(passed, [0, 0])
})
