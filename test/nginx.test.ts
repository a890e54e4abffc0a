import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyContentTypeParser, FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { type CurlProcess, listen, printed, startCurl, until } from './clients.ts'
import { build, curl, gate, serve } from './helper.ts'

const configuration = new URL('../docker/nginx.conf', import.meta.url)

function nginxIsInstalled(): boolean {
  try {
    execFileSync('nginx', ['-v'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** What the image's own nginx.conf is around conf.d, in a folder of the test's. */
function mainConfiguration(folder: string, upstream: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${folder}/${name};`)
    .join('\n')
  return `
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr error;
events {}
http {
  ${temporary}
  upstream app { server ${upstream}; keepalive 32; }
  include ${folder}/conf.d/nginx.conf;
}
`
}

/** nginx with the compose file's configuration, in front of the app; only addresses and the log's place differ. */
async function startNginx(t: Test, appUrl: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'nginx-test-'))
  const port = await freePort()
  const server = readFileSync(configuration, 'utf8')
    .replace('listen 80;', `listen 127.0.0.1:${port};`)
    .replace('/dev/stdout', `${folder}/access.log`)
  mkdirSync(join(folder, 'conf.d'))
  writeFileSync(join(folder, 'conf.d/nginx.conf'), server)
  writeFileSync(join(folder, 'nginx.conf'), mainConfiguration(folder, new URL(appUrl).host))

  const nginx = spawn('nginx', ['-p', folder, '-e', 'stderr', '-c', join(folder, 'nginx.conf')], {
    stdio: ['ignore', 'ignore', 'inherit']
  })
  const exit = once(nginx, 'exit')
  t.teardown(async () => {
    nginx.kill('SIGTERM')
    await exit
    rmSync(folder, { recursive: true })
  })
  await accepting(port, () => nginx.exitCode === null)
  return `http://127.0.0.1:${port}`
}

/** nginx does not say when it listens. */
async function accepting(port: number, isAlive: () => boolean): Promise<void> {
  while (isAlive()) {
    const socket = connect(port, '127.0.0.1')
    const connected = await once(socket, 'connect').then(
      () => true,
      () => false
    )
    socket.destroy()
    if (connected) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error('nginx has ended: see its message above')
}

async function serveBehindNginx(t: Test, routes: (app: FastifyInstance) => unknown): Promise<string> {
  const { url } = await serve(t, routes)
  return startNginx(t, url)
}

/** A body parser that leaves the body a stream. */
const keepStream: FastifyContentTypeParser = async (_request, payload) => payload

/** Uploads what is written to its stdin; with "-" for the dot, curl would read no answer while it waits for more. */
function startUpload(url: string): CurlProcess {
  return startCurl(
    '--header',
    'Content-Type: text/csv',
    '--request',
    'POST',
    '--upload-file',
    '.',
    `${url}/imports`
  )
}

// On one's own machine nginx may be missing; where it must not be, a skipped test would hide that nothing was tested.
const skip =
  !nginxIsInstalled() && process.env.CI !== 'true' && 'nginx is not installed: install it to run this'

t.test('behind nginx', { skip }, async (t) => {
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
          (async function* () {
            yield ['first']
            await opened
            yield ['second']
          })(),
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
    t.equal(await printed(client.stdout, /\n/), '[waiting]\n')
    client.kill()
  })

  t.test('a source that fails half-way is seen by the client', async (t) => {
    const { opened, open } = gate()
    const url = await serveBehindNginx(t, (app) => {
      app.get('/', (_request, reply) =>
        reply.csv(
          (async function* () {
            yield ['first']
            await opened
            throw new Error('the disk is on fire')
          })(),
          { header: false }
        )
      )
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

  t.test('an upload is answered while it is still going on', async (t) => {
    const url = await serveBehindNginx(t, (app) => {
      app.addContentTypeParser('text/csv', keepStream)
      app.post('/imports', (request, reply) =>
        reply.streamText(
          (async function* () {
            for await (const chunk of request.body as AsyncIterable<Buffer>) yield `${chunk.length} bytes\n`
            yield 'done\n'
          })()
        )
      )
    })
    const client = startUpload(url)
    const exit = once(client, 'exit')
    client.stdin.write('a,b\n')
    t.equal(await printed(client.stdout, /\n/), '4 bytes\n')
    client.stdin.write('1,2\n3,4\n')
    t.equal(await printed(client.stdout, /\n/), '8 bytes\n')
    client.stdin.end()
    t.equal(await printed(client.stdout, /\n/), 'done\n')
    t.strictSame(await exit, [0, null])
  })

  t.test('an upload may be larger than what nginx allows elsewhere', async (t) => {
    let received = 0
    const url = await serveBehindNginx(t, (app) => {
      app.addContentTypeParser('text/csv', keepStream)
      app.post('/imports', async (request) => {
        for await (const chunk of request.body as AsyncIterable<Buffer>) received += chunk.length
        return `${received}`
      })
    })
    const client = startUpload(url)
    client.stdin.end(Buffer.alloc(5_000_000, 'x'))
    t.equal(await printed(client.stdout, /\d{7}/), '5000000')
  })

  t.test('a client that leaves half-way through its upload is seen by the app', async (t) => {
    let failure: unknown
    const arrived = gate()
    const url = await serveBehindNginx(t, (app) => {
      app.addContentTypeParser('text/csv', keepStream)
      app.post('/imports', async (request) => {
        try {
          for await (const _chunk of request.body as AsyncIterable<Buffer>) arrived.open()
        } catch (error) {
          failure = error
        }
      })
    })
    const client = startUpload(url)
    client.stdin.write('a,b\n')
    await arrived.opened
    client.kill()
    await until(() => failure !== undefined)
    t.match(failure, { code: 'ECONNRESET' })
  })
})
