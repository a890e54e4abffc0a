import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { PassThrough, type Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { listen, printed, startCurl, until } from '../clients.ts'
import { build, curl, gate, serve } from '../helper.ts'
import { startNginx } from '../nginx.ts'
import { skipWithout } from '../programs.ts'

async function serveBehindNginx(t: Test, routes: (app: FastifyInstance) => unknown): Promise<string> {
  const { url } = await serve(t, routes)
  return startNginx(t, url)
}

/** An instance in a process of its own, which `GET /exit` ends before it answers. */
async function startMortal(t: Test, port = '0'): Promise<{ url: string; child: ChildProcess }> {
  const source = `
    const server = require('node:http').createServer((request, response) => {
      if (request.url === '/exit') process.exit(1)
      response.end('alive')
    })
    server.listen(${port}, '127.0.0.1', () => console.log(server.address().port))
  `
  const child = spawn(process.execPath, ['--eval', source], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill())
  return { url: `http://127.0.0.1:${(await printed(child.stdout, /\n/)).trim()}`, child }
}

/** A body parser that leaves the body a stream. */
const keepStream = async (_request: FastifyRequest, payload: Readable) => payload

/** An upload of what is written to `file`; curl would wait for more of it before it reads the answer. */
function startUpload(url: string, signal?: AbortSignal) {
  const file = new PassThrough()
  const headers = { 'content-type': 'text/csv' }
  const response = request(`${url}/imports`, { method: 'POST', headers, body: file, signal })
  return { file, response }
}

const skip = skipWithout('nginx', 'nginx', '-v')

/** A row, and when the test says so another one. */
async function* firstThen(opened: Promise<void>, next: () => string[]) {
  yield ['first']
  await opened
  yield next()
}

t.test('behind nginx', { skip, timeout: 40_000 }, async (t) => {
  t.test('the downloads are what they are without it', async (t) => {
    const origin = await listen(await build(t))
    const proxied = await startNginx(t, origin)
    for (const path of ['/download_csv?rows=1000', '/download_csv_streaming?rows=100000']) {
      t.equal((await curl(proxied + path)).body, (await curl(origin + path)).body, path)
    }
    t.match((await curl(proxied)).body, `curl '${proxied}/'`, 'the page names the address of nginx')
  })

  t.test('a row is at the client while the source waits for the next', async (t) => {
    const { opened, open } = gate()
    const url = await serveBehindNginx(t, (app) => {
      app.get('/', (_request, reply) =>
        reply.csv(
          firstThen(opened, () => ['second']),
          { header: false }
        )
      )
    })
    const client = startCurl(url)
    const exit = once(client, 'exit')
    t.equal(await printed(client.stdout, /\n/), 'first\n')
    open()
    t.equal(await printed(client.stdout, /\n/), 'second\n')
    t.strictSame(await exit, [0, null])
  })

  t.test('a heartbeat reaches the client', async (t) => {
    const proxied = await startNginx(t, await listen(await build(t)))
    const client = startCurl(`${proxied}/streamed?sleep=60&heartbeat=0.02`)
    t.match(await printed(client.stdout, /\n/), /^(\[waiting\]\n)+$/)
    client.kill()
  })

  t.test('a source that fails half-way is seen by the client', async (t) => {
    const { opened, open } = gate()
    const url = await serveBehindNginx(t, (app) => {
      const fail = () => {
        throw new Error('the disk is on fire')
      }
      app.get('/', (_request, reply) => reply.csv(firstThen(opened, fail), { header: false }))
    })
    const client = startCurl(url)
    const exit = once(client, 'exit')
    await printed(client.stdout, /first/)
    open()
    const [code] = await exit
    t.equal(code, 18, 'curl: transfer closed with outstanding read data remaining')
  })

  t.test('a source that fails before its first row is an error reply', async (t) => {
    const url = await serveBehindNginx(t, (app) => {
      app.get('/', (_request, reply) => reply.csv(() => Promise.reject(new Error('no database'))))
    })
    const { code, body } = await curl('--include', url)
    t.equal(code, 0)
    t.match(body, /^HTTP\/1.1 500 /)
    t.notMatch(body, /content-disposition/i)
  })

  t.test('a client that leaves stops the source', async (t) => {
    const stopped = gate<unknown>()
    const url = await serveBehindNginx(t, (app) => {
      app.get('/', (_request, reply) =>
        reply.csv(
          async function* ({ signal }) {
            yield ['first']
            await once(signal, 'abort')
            stopped.open(signal.reason)
          },
          { header: false }
        )
      )
    })
    const client = startCurl(url)
    await printed(client.stdout, /first/)
    client.kill()
    t.match(await stopped.opened, { code: 'CSV_EXPORT_CLIENT_GONE' })
  })

  t.test('a GET that ends its instance ends at most one other, and the rest serve on', async (t) => {
    const instances = await Promise.all(Array.from({ length: 4 }, () => startMortal(t)))
    const proxied = await startNginx(t, ...instances.map(({ url }) => url))
    const { body } = await curl('--write-out', '%{http_code}', `${proxied}/exit`)
    t.match(body, /502$/)
    for (let count = 0; count < 12; count++) {
      t.equal((await curl('--write-out', ' %{http_code}', proxied)).body, 'alive 200')
    }
    t.equal(instances.filter(({ child }) => child.exitCode === null).length, 2)
  })

  t.test('once all instances have died and one is back, it is asked at once', async (t) => {
    const first = await startMortal(t)
    const second = await startMortal(t)
    const proxied = await startNginx(t, first.url, second.url)
    await curl(`${proxied}/exit`)
    t.match(await curl('--write-out', '%{http_code}', proxied), { body: /502$/ })
    await startMortal(t, new URL(first.url).port)
    t.equal((await curl('--write-out', ' %{http_code}', proxied)).body, 'alive 200')
  })

  t.test('an upload is answered while it is still going on', async (t) => {
    const url = await serveBehindNginx(t, (app) => {
      app.addContentTypeParser('text/csv', keepStream)
      app.post('/imports', ({ body }, reply) =>
        reply.streamText(
          (async function* () {
            for await (const chunk of body as AsyncIterable<Buffer>) yield `${chunk.length} bytes\n`
            yield 'done\n'
          })()
        )
      )
    })
    const { file, response } = startUpload(url)
    file.write('a,b\n')
    const { body } = await response
    t.equal(await printed(body, /\n/), '4 bytes\n')
    file.write('1,2\n3,4\n')
    t.equal(await printed(body, /\n/), '8 bytes\n')
    file.end()
    t.equal(await printed(body, /\n/), 'done\n')
  })

  t.test('an upload may be larger than what nginx allows elsewhere', async (t) => {
    let received = 0
    const url = await serveBehindNginx(t, (app) => {
      app.addContentTypeParser('text/csv', keepStream)
      app.post('/imports', async ({ body }) => {
        for await (const chunk of body as AsyncIterable<Buffer>) received += chunk.length
        return `${received}`
      })
    })
    const { file, response } = startUpload(url)
    file.end(Buffer.alloc(5_000_000, 'x'))
    t.equal(await (await response).body.text(), '5000000')
  })

  t.test('a client that leaves half-way through its upload is seen by the app', async (t) => {
    let failure: unknown
    const arrived = gate()
    const url = await serveBehindNginx(t, (app) => {
      app.addContentTypeParser('text/csv', keepStream)
      app.post('/imports', async ({ body }) => {
        try {
          for await (const _chunk of body as AsyncIterable<Buffer>) arrived.open()
        } catch (error) {
          failure = error
        }
      })
    })
    const abort = new AbortController()
    const { file, response } = startUpload(url, abort.signal)
    file.write('a,b\n')
    await arrived.opened
    abort.abort()
    await t.rejects(response)
    await until(() => failure !== undefined)
    t.match(failure, { code: 'ECONNRESET' })
  })
})
