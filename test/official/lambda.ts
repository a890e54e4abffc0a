import { spawn } from 'node:child_process'
import { on, once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import Fastify from 'fastify'
import type { Test } from 'tap'
import csvExport from '../../plugins/csv-export/index.ts'
import { printed } from '../clients.ts'
import { beside, official } from './beside.ts'
import { exports, rowCount, whole } from './exports.ts'

/**
 * AWS's own runtime client, in a process of its own as in a function. The service that it asks for invocations is this
 * test: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
 */
async function startFunction(t: Test, handler: 'streamed' | 'piped') {
  const server = createServer()
  const requests = on(server, 'request')
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const folder = join(import.meta.dirname, 'lambda')
  const runtime = official.resolve('aws-lambda-ric')
  const child = spawn(process.execPath, ['--import', join(folder, 'without-native.mjs'), runtime], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: process.env.PATH,
      AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${port}`,
      AWS_LAMBDA_NODEJS_USE_ALTERNATIVE_CLIENT_1: 'true',
      AWS_LAMBDA_FUNCTION_NAME: 'reports',
      AWS_LAMBDA_FUNCTION_VERSION: '1',
      AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '1769',
      AWS_LAMBDA_LOG_GROUP_NAME: 'group',
      AWS_LAMBDA_LOG_STREAM_NAME: 'stream',
      LAMBDA_TASK_ROOT: folder,
      _HANDLER: `handler.${handler}`
    }
  })
  t.teardown(() => child.kill())
  const next = async () => (await requests.next()).value as [IncomingMessage, ServerResponse]

  return {
    log: child.stdout,
    exited: once(child, 'exit'),
    /** What a function's URL would answer; the runtime's own word on a break is in a trailer. */
    async invoke(path: string, headers: Record<string, string> = {}) {
      const [asked, invocation] = await next()
      t.match(asked.url, /invocation\/next$/)
      invocation.setHeader('lambda-runtime-aws-request-id', '1')
      invocation.setHeader('lambda-runtime-deadline-ms', Date.now() + 60_000)
      invocation.setHeader(
        'lambda-runtime-invoked-function-arn',
        'arn:aws:lambda:eu-central-1:1:function:reports'
      )
      const http = { method: 'GET', path, sourceIp: '127.0.0.1' }
      invocation.end(JSON.stringify({ version: '2.0', rawPath: path, headers, requestContext: { http } }))
      const [answer, accepted] = await next()
      t.equal(answer.headers['lambda-runtime-function-response-mode'], 'streaming')
      const chunks: Buffer[] = []
      const broken = await answer
        .forEach((chunk) => void chunks.push(chunk))
        .then(
          () => answer.trailers['lambda-runtime-function-error-type'],
          ({ code }) => code
        )
      accepted.writeHead(202).end()
      const all = Buffer.concat(chunks)
      // What comes ahead of eight null bytes is the head.
      const end = all.indexOf(Buffer.alloc(8))
      return { meta: JSON.parse(String(all.subarray(0, end))), body: all.subarray(end + 8), broken }
    }
  }
}

beside('@fastify/aws-lambda', 'with payloadAsStream exports are whole or broken', async (t) => {
  const { invoke, log } = await startFunction(t, 'streamed')
  const identity = await invoke('/whole.csv')
  t.ok(String(identity.body) === whole)
  t.match(identity.meta, {
    statusCode: 200,
    headers: { 'export-id': /./, 'content-disposition': /whole\.csv/ }
  })
  t.equal(identity.broken, undefined)
  await printed(log, new RegExp(`receipt /whole.csv complete ${rowCount}\n`))
  const gzip = await invoke('/whole.csv', { 'accept-encoding': 'gzip' })
  t.equal(gzip.meta.headers['content-encoding'], 'gzip')
  t.ok(String(gunzipSync(gzip.body)) === whole)
  const early = await invoke('/early.csv')
  t.equal(early.meta.statusCode, 404)
  t.match(JSON.parse(String(early.body)), { message: 'no such report' })
  const late = await invoke('/late.csv')
  t.equal(String(late.body), 'id\n1\n')
  t.equal(late.broken, 'Error', "the runtime's own word on it")
  await printed(log, /receipt \/late.csv source_failed 1\n/)
  t.equal(String((await invoke('/whole.csv')).body), whole, 'the function goes on')
})

beside('@fastify/aws-lambda', 'a break ends the function that pipes, as in the pages of AWS', async (t) => {
  const { invoke, exited } = await startFunction(t, 'piped')
  t.ok(String((await invoke('/whole.csv')).body) === whole)
  t.equal((await invoke('/late.csv')).broken, 'ECONNRESET')
  t.same(await exited, [1, null])
})

beside(
  '@fastify/aws-lambda',
  'a head that goes ahead of the rows loses them: a longer commitAfter keeps them',
  async (t) => {
    const { invoke, log } = await startFunction(t, 'streamed')
    const lost = await invoke('/slow-50.csv')
    t.match(lost, { meta: { statusCode: 200 }, broken: undefined })
    t.equal(String(lost.body), '')
    await printed(log, /receipt \/slow-50.csv complete 1\n/)
    t.equal(String((await invoke('/slow-900000.csv')).body), 'id\n1\n')
  }
)

beside('@fastify/aws-lambda', 'without payloadAsStream a break is a reply with 500', async (t) => {
  const app = Fastify()
  app.register(csvExport)
  app.register(async (app) => exports(app))
  const proxy = official('@fastify/aws-lambda')(app)
  const ask = (rawPath: string, headers: object) =>
    proxy({ version: '2.0', rawPath, headers, requestContext: { http: { method: 'GET' } } }, {})
  const identity = await ask('/whole.csv', {})
  t.ok(identity.body === whole)
  const gzip = await ask('/whole.csv', { 'accept-encoding': 'gzip' })
  t.ok(String(gunzipSync(Buffer.from(gzip.body, 'base64'))) === whole)
  t.match(await ask('/early.csv', {}), { statusCode: 404 })
  t.match(await ask('/late.csv', {}), { statusCode: 500, body: '' })
})
