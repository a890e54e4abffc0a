import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { createServer as createTlsServer } from 'node:tls'
import fastifyCompress from '@fastify/compress'
import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import csvExport from '../../../plugins/csv-export/index.ts'
import { askers } from '../../../plugins/probe/ask.ts'
import { main } from '../../../plugins/probe/main.ts'
import { serve } from '../../helper.ts'
import { makeCertificate } from '../../interop/servers.ts'
import { probe, runProbe } from '../../probing.ts'

const bin = join(import.meta.dirname, '../../../plugins/probe/bin.ts')
const path = '/csv-export-probe'
const probed = { defaults: { probe: true } }

async function listen(t: Test, server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A server with one reply. */
const answering = (t: Test, listener: RequestListener) => listen(t, createHttpServer(listener))

const certificate = makeCertificate()
t.teardown(certificate.remove)
const secure = { key: readFileSync(certificate.key), cert: readFileSync(certificate.certificate) }

async function runProgram() {
  const { url } = await serve(t, () => {}, probed)
  const args = [bin, 'probe', url + path, '--silence', '0.1']
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close')
  ])
  return { stdout, stderr, code }
}

async function startSecure(): Promise<string> {
  const server = { http2: true, https: { ...secure, allowHTTP1: true } }
  const { url } = await serve(t, () => {}, { ...probed, server })
  return url.replace('http:', 'https:') + path
}

/** @fastify/compress codes where the plugin does not. */
async function probeCompressed() {
  const app = Fastify()
  await app.register(fastifyCompress, { threshold: 0 })
  await app.register(csvExport, { probe: true, compress: false })
  t.teardown(() => app.close())
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  return runProbe(['probe', url + path, '--silence', '0'])
}

/** What is in between has a whole body before it sends any of it. */
async function probeHolding() {
  const { url } = await serve(t, () => {}, probed)
  const holding = await answering(t, async (request, response) => {
    const held = await fetch(url + request.url)
    const body = await held.text().catch(() => undefined)
    if (body === undefined) response.destroy()
    else response.end(body)
  })
  return probe(`http://${holding}${path}`)
}

/** A server that some requests are nobody's to. */
async function probeGuarded() {
  const without: string[] = []
  const isKnown = async ({ headers, raw }: FastifyRequest, reply: FastifyReply) => {
    if (headers.authorization === 'Bearer x') return
    without.push(raw.httpVersion)
    return reply.code(401).send()
  }
  const { url } = await serve(t, (app) => app.addHook('onRequest', isKnown), probed)
  const args = ['probe', url + path, '--silence=0', '-H', 'Authorization: Bearer x']
  const [shown, quiet] = await Promise.all([
    runProbe(args, { isTTY: true }),
    runProbe([...args, '--quiet'], { isTTY: true })
  ])
  return { shown, quiet, without, refused: await runProbe(['probe', url + path]) }
}

const secureUrl = await startSecure()
// Most of their time is waited.
const [program, overTls, compressed, holding, guarded] = await Promise.all([
  runProgram(),
  probe(secureUrl),
  probeCompressed(),
  probeHolding(),
  probeGuarded()
])

t.test('the program tells what comes straight from the server', async (t) => {
  const { stdout, stderr, code } = program
  t.equal(stderr, '', 'no progress where nobody sees it')
  t.equal(
    stdout.replace(/\d+ ms|\d\.\d s(?=\.)/, 'N ms'),
    [
      'ok     HTTP/1.1 is spoken, the app is asked in HTTP/1.1; the first byte comes after N ms.',
      'ok     Rows come as they are sent (HTTP/1.1).',
      'ok     The body is coded with zstd, by the plugin.',
      'ok     A break is seen (HTTP/1.1: ECONNRESET, HTTP/1.0: ECONNRESET).',
      'ok     Trailers arrive (HTTP/1.1).',
      'ok     A silence of 0.1 s is borne.',
      '',
      'All is well.\n'
    ].join('\n')
  )
  t.equal(code, 0)
})

t.test('over TLS it asks in HTTP/2 too', async (t) => {
  const { wrong, findings } = overTls
  t.same(wrong, [])
  const texts = findings.map(({ text }) => text)
  t.match(texts, [
    /^HTTP\/1.1 and HTTP\/2 are spoken/,
    'Rows come as they are sent (HTTP/1.1, HTTP/2).',
    /zstd, by the plugin/,
    /^A break is seen \(HTTP\/1.1: ECONNRESET, HTTP\/2: \w+, HTTP\/1.0: \w+\)/,
    'Trailers arrive (HTTP/1.1, HTTP/2).'
  ])
  const strict = await runProbe(['probe', secureUrl])
  t.match(strict, { status: 2, stderr: /does not answer: DEPTH_ZERO_SELF_SIGNED/ })
})

t.test('HTTP/2 that is spoken but not chosen is none', async (t) => {
  const http2 = await listen(t, createHttp2Server())
  const server = createTlsServer(secure, (socket) => {
    const behind = connect(Number(http2.split(':')[1]))
    socket.on('error', () => behind.destroy()).pipe(behind)
    behind.on('error', () => socket.destroy()).pipe(socket)
  })
  const url = new URL(`https://${await listen(t, server)}`)
  await t.rejects(askers['2']({ url, headers: {}, isStrict: false, timeout: 5_000 }), {
    message: 'HTTP/2 is not chosen'
  })
})

t.test('what HTTP/1.0 gets that is no reply is an error', async (t) => {
  const mute = await listen(
    t,
    createServer((socket) => socket.end())
  )
  const resetting = await listen(
    t,
    createServer((socket) => socket.resetAndDestroy())
  )
  const silent = await listen(
    t,
    createServer((socket) => t.teardown(() => socket.destroy()))
  )
  const ask = (host: string) =>
    askers['1.0']({ url: new URL(`http://${host}`), headers: {}, isStrict: true, timeout: 50 })
  await t.rejects(ask(mute), { message: 'no reply' })
  await t.rejects(ask(resetting), { message: 'ECONNRESET' })
  await t.rejects(ask(silent), { message: 'ETIMEDOUT' })
  await t.rejects(ask('[::1]:1'), { message: /^E/ })
  await t.rejects(ask('nobody.invalid'), { message: /^E/ })
  const url = new URL('https://nobody.invalid')
  await t.rejects(askers['1.0']({ url, headers: {}, isStrict: true, timeout: 5_000 }), { message: /^E/ })
})

t.test('what compresses without flushing in the app is named', async (t) => {
  const { status, stdout } = compressed
  t.match(stdout, /^note {3}The body is coded with \w+, not by the plugin/m)
  t.match(
    stdout,
    /^wrong {2}Rows are held back where they are coded: .*\n {7}Likely: .*@fastify\/compress in the app/m
  )
  t.match(stdout, /\n {7}Set: compress: true.*\n {7}See: docs\/streaming.md#content-coding\n/)
  t.match(stdout, /\nSomething is wrong: see above\.\n$/)
  t.equal(status, 1)
})

t.test('what holds rows back is told by its lumps', async (t) => {
  t.same(holding.wrong, ['rows held'])
  const text = holding.findings.find(({ level }) => level === 'wrong')?.text
  t.match(
    text,
    /^Rows are held back on HTTP\/1\.1: all come in one lump \(10 rows, 0\.\d kB, the first of them \d\.\d s late\)/
  )
  t.match(text, /, and so do 52\d\.\d kB of long rows\.$/)
})

t.test('an error of its own is no verdict', async (t) => {
  const failing = {
    write() {
      throw new Error('the pipe is broken')
    }
  }
  await t.rejects(main(['--help'], { stdout: failing, stderr: failing }), { message: 'the pipe is broken' })
})

t.test('progress is a line on a terminal', async (t) => {
  const { shown, quiet } = guarded
  const lines = shown.stderr.split('\r\u001b[K')
  t.match(lines, ['', 'probing: rows on HTTP/1.1', 'probing: rows on HTTP/2'])
  t.equal(lines.at(-1), '', 'it is gone at the end')
  t.equal(quiet.stderr, '')
})

t.test('headers are sent along, on each version of HTTP', async (t) => {
  const { shown, without, refused } = guarded
  t.equal(shown.status, 0)
  t.same(without, ['1.1'], 'but for the one that was to be refused')
  t.match(refused.stderr, /answers 401 Unauthorized\. Register the plugin with { probe: true }/)
})

t.test('what is no probe gets a sentence, and 2', async (t) => {
  const page = await answering(t, (_request, response) => response.end('<h1>Hello'))
  const moved = await answering(t, (_request, response) =>
    response.writeHead(301, { location: 'https://example.org/' }).end()
  )
  const odd = await answering(t, (_request, response) => response.writeHead(599).end())
  const closed = await listen(
    t,
    createServer((socket) => socket.destroy())
  )
  const said: Record<string, RegExp> = {
    [page]:
      /is no route of a probe\. Register the plugin with { probe: true }, and give the URL of \/csv-export-probe/,
    [moved]: /leads to https:\/\/example\.org\/: probe that/,
    [odd]: /answers 599\. Register/,
    [closed]: /does not answer: ECONNRESET/,
    'nobody.invalid': /does not answer: E/
  }
  for (const [host, sentence] of Object.entries(said)) {
    t.match(await runProbe(['probe', `http://${host}${path}`]), { status: 2, stdout: '', stderr: sentence })
  }
})

t.test('docs/probe.md has the options of --help', async (t) => {
  const page = await readFile(join(import.meta.dirname, '../../../docs/probe.md'), 'utf8')
  const { stdout } = await runProbe(['--help'])
  const names = (text: string) => [...new Set(text.match(/--[a-z]+/g))].sort()
  const table = page.slice(page.indexOf('## Options'), page.indexOf('## The route'))
  t.same(names(table), names(stdout))
})

t.test('it tells how to be used', async (t) => {
  t.match(await runProbe(['--help']), {
    status: 0,
    stdout: /^Usage: fastify-csv-export probe URL/,
    stderr: ''
  })
  const wrong: [args: string[], sentence: RegExp][] = [
    [[], /^Usage/],
    [['prob', 'http://localhost'], /^Usage/],
    [['probe', 'http://localhost', 'more'], /^Usage/],
    [['probe'], /A URL is needed/],
    [['probe', 'ftp://localhost'], /A URL is needed .*, not "ftp:\/\/localhost"/],
    [['probe', 'http://localhost', '--silence', '121'], /between 0 and 120/],
    [['probe', 'http://localhost', '--silence', 'x'], /between 0 and 120/],
    [['probe', 'http://localhost', '-H', 'x'], /A header is "Name: value", not "x"/],
    [['probe', 'http://localhost', '--loud'], /Unknown option '--loud'.* See --help/]
  ]
  for (const [args, sentence] of wrong) {
    t.match(await runProbe(args), { status: 2, stdout: '', stderr: sentence }, args.join(' '))
  }
})
