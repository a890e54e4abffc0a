import { execFile, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import diagnostics from 'node:diagnostics_channel'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import escapeHtml from 'escape-html'
import type { FastifyInstance, RouteOptions } from 'fastify'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { listen } from '../clients.ts'
import { startDatabase, temporaryFolder } from '../database.ts'
import { build } from '../helper.ts'

const databaseUrl = await startDatabase(t, { rows: 1000 })

const browser = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'

async function read(url: string, headers: Record<string, string> = {}) {
  const response = await request(url, { headers })
  return { statusCode: response.statusCode, headers: response.headers, body: await response.body.text() }
}

/** The sample app, and its routes as they were registered. */
async function buildWithRoutes(t: Test): Promise<{ app: FastifyInstance; routes: string[] }> {
  const routes: string[] = []
  const collect = (message: unknown) => {
    const { fastify } = message as { fastify: FastifyInstance }
    fastify.addHook('onRoute', ({ method, url }: RouteOptions) => {
      for (const name of [method].flat()) if (name !== 'HEAD') routes.push(`${name} ${url}`)
    })
  }
  diagnostics.subscribe('fastify.initialization', collect)
  const app = await build(t, { databaseUrl })
  diagnostics.unsubscribe('fastify.initialization', collect)
  return { app, routes }
}

t.test('every route is listed, with a curl line, and no other', async (t) => {
  const { app, routes } = await buildWithRoutes(t)
  const { body } = await read(await listen(app))
  const listed = body.match(/^(GET|POST|PUT|DELETE|PATCH) \/.*$/gm) ?? []
  t.strictSame([...listed].sort(), [...routes].sort())
  t.equal(body.match(/^ {2}curl /gm)?.length, listed.length)
})

t.test('the lines work when they are pasted into a shell, in their order', async (t) => {
  const { body } = await read(await listen(await build(t, { databaseUrl })))
  const lines = body.match(/^ {2}curl .*$/gm) ?? []
  const shell = spawn('sh', ['-e'], {
    cwd: await temporaryFolder(t),
    stdio: ['pipe', 'pipe', 'inherit']
  })
  shell.stdin.end(`curl() { command curl --fail -sS "$@"; }\n${lines.join('\n')}\n`)
  const [printed, [code]] = await Promise.all([text(shell.stdout), once(shell, 'close')])
  t.equal(code, 0, printed)
  const expected = [
    /^Hello,world,4\r?$/gm,
    /"status":"complete"/,
    /^import 1: \d\d+ rows$/m,
    /^line 5 /m,
    /^lift-off$/m
  ]
  for (const pattern of expected) t.match(printed, pattern)
  t.ok(printed.length < 20_000, 'and none floods the terminal')
})

t.test('curl gets text, a browser a page', async (t) => {
  const origin = await listen(await build(t, { databaseUrl }))
  const types: [accept: string, type: string][] = [
    ['*/*', 'text/plain; charset=utf-8'],
    [browser, 'text/html; charset=utf-8'],
    ['text/html;q=0.1, text/plain', 'text/plain; charset=utf-8'],
    ['application/json', 'text/plain; charset=utf-8']
  ]
  for (const [accept, type] of types) {
    const { headers } = await read(origin, { accept })
    t.equal(headers['content-type'], type, accept)
    t.equal(headers.vary, 'Accept')
  }
})

t.test('the page holds the same curl lines as the text', async (t) => {
  const origin = await listen(await build(t, { databaseUrl }))
  const { body: text } = await read(origin)
  const { body: page } = await read(origin, { accept: browser })
  for (const line of text.match(/^ {2}curl .*$/gm) ?? []) {
    t.match(page, `<pre>${escapeHtml(line.trim())}</pre>`)
  }
})

t.test("the host of the lines is the request's own, harmless in a shell and in a page", async (t) => {
  const origin = await listen(await build(t, { databaseUrl }))
  t.match((await read(origin, { host: 'reports.example:8443' })).body, "'http://reports.example:8443/")

  const host = `a'$(id)"<b>&`
  const { body: text } = await read(origin, { host })
  const [line] = text.match(/curl .*cargoes\.csv\?.*|curl .*download_csv\?.*/) ?? []
  const { stdout } = await promisify(execFile)('sh', ['-c', `curl() { printf '%s\\n' "$@"; }; ${line}`])
  t.match(stdout, `http://${host}/`, 'one argument, as it was sent')
  const [nested] = text.match(/curl .*\/exports\/.*/) ?? []
  const cwd = await temporaryFolder(t)
  const id = randomUUID()
  await writeFile(join(cwd, 'head.txt'), `HTTP/1.1 200 OK\r\nExport-Id: ${id}\r\n\r\n`)
  const last = 'curl() { shift $(($# - 1)); printf %s "$1"; }'
  const { stdout: url } = await promisify(execFile)('sh', ['-c', `${last}; ${nested}`], { cwd })
  t.equal(url, `http://${host}/exports/${id}`, 'so is one with a command inside')
  const { body: page } = await read(origin, { host, accept: browser })
  t.notMatch(page, '<b>')
  t.match(page, '&quot;&lt;b&gt;&amp;')
})

t.test('a server without a database promises no reports', async (t) => {
  const { body } = await read(await listen(await build(t)))
  t.match(body, '/download_csv_streaming')
  t.notMatch(body, /reports|imports/)
})
