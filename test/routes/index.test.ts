import { execFile, spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import diagnostics from 'node:diagnostics_channel'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
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

const databaseUrl = await startDatabase(t, { rows: 2_000 })

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
  const cwd = await temporaryFolder(t)
  const shell = spawn('sh', ['-e'], {
    cwd,
    stdio: ['pipe', 'pipe', 'inherit']
  })
  shell.stdin.end(`curl() { command curl --fail -sS "$@"; }\n${lines.join('\n')}\n`)
  const [printed, [code]] = await Promise.all([text(shell.stdout), once(shell, 'close')])
  t.equal(code, 0, printed)
  const expected = [
    /^Hello,world,4\r?$/gm,
    /"status":"complete"/,
    /"state":"queued"/,
    /"state":"succeeded"/,
    /^import 1: \d\d+ rows$/m,
    /^line 5 /m,
    /^lift-off$/m
  ]
  for (const pattern of expected) t.match(printed, pattern)
  t.ok(printed.length < 20_000, 'and none floods the terminal')
  const [report, run] = await Promise.all(['cargoes.csv', 'tea.csv'].map((file) => readFile(join(cwd, file))))
  t.ok(report.length > 1_000, 'the rest of the run was resumed')
  t.ok(run.equals(report), 'the run has the bytes of the report')
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

t.test('the page runs its own script alone, and loads nothing', async (t) => {
  const { body, headers } = await read(await listen(await build(t, { databaseUrl })), { accept: browser })
  const policy = String(headers['content-security-policy']).split('; ')
  for (const [, name, content] of body.matchAll(/<(style|script)>(.*?)<\/\1>/gs) as Iterable<string[]>) {
    const hash = createHash('sha256')
      .update(content as string)
      .digest('base64')
    t.ok(policy.includes(`${name}-src 'sha256-${hash}'`), name)
  }
  t.match(body, /<script>.*<select|<select.*<script>/s)
  t.notMatch(policy.join(), /unsafe|\*|https?:/)
  for (const own of ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"])
    t.ok(policy.includes(own), own)
})

t.test('a server without a database promises no reports, and no runs', async (t) => {
  const origin = await listen(await build(t))
  const { body } = await read(origin)
  t.match(body, '/download_csv_streaming')
  t.notMatch(body, /reports|imports|runs/)
  const { body: page, headers } = await read(origin, { accept: browser })
  t.notMatch(page, /<script|<select|\/reports|\/runs/)
  t.notMatch(String(headers['content-security-policy']), /script-src|connect-src/)
})
