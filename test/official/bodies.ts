import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { get } from 'node:http'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { temporaryFolder } from '../database.ts'
import { curl } from '../helper.ts'
import { type App, assertEnds, beside, bothOrders, official, serveBeside } from './beside.ts'
import { exports, rowCount, whole } from './exports.ts'

beside(
  '@fastify/multipart',
  'an upload is read while its rows are sent; one too large ends early without an error',
  (t) =>
    bothOrders(t, async (t, order) => {
      const plugins = (app: App) =>
        app.register(official('@fastify/multipart'), { limits: { fileSize: whole.length } })
      const routes = (app: App) => {
        exports(app)
        app.post('/', async (request: any, reply) => {
          const { file } = await request.file()
          return reply.csv(async function* () {
            for await (const line of createInterface({ input: file })) {
              const [id, ...text] = line.split(',')
              yield { id, text: text.join(',') }
            }
            if (file.truncated && request.query.checks) throw new Error('the upload is too large')
          })
        })
      }
      const server = await serveBeside(t, plugins, routes, order)
      await assertEnds(t, server)
      const path = join(await temporaryFolder(t), 'upload.txt')
      await writeFile(path, whole.split('\n').slice(1).join('\n').replaceAll('"', ''))
      const { code, body } = await curl('-F', `file=@${path}`, server.url)
      t.equal(code, 0)
      t.ok(body === whole.replaceAll('"', ''), 'as it was sent')
      await writeFile(path, '1,too large\n'.repeat(whole.length / 10))
      for (const [query, code, status] of [
        ['', 0, 'complete'],
        ['?checks=1', 56, 'source_failed']
      ] as const) {
        const told = server.receipt()
        t.equal((await curl('-F', `file=@${path}`, `${server.url}/${query}`)).code, code)
        t.equal((await told).status, status)
      }
    })
)

beside('@fastify/static', 'its files and exports are as they are alone', (t) =>
  bothOrders(t, async (t, order) => {
    const root = await temporaryFolder(t)
    await writeFile(join(root, 'kept.csv'), whole)
    const plugins = (app: App) => app.register(official('@fastify/static'), { root, prefix: '/' })
    const server = await serveBeside(t, plugins, exports, order)
    const { headers } = await assertEnds(t, server)
    t.equal(headers.get('cache-control'), 'no-store')
    const kept = await fetch(`${server.url}/kept.csv`)
    t.ok((await kept.text()) === whole)
    t.equal(kept.headers.get('export-id'), null)
    t.match(kept.headers.get('etag'), /./)
    const part = await fetch(`${server.url}/kept.csv`, { headers: { range: 'bytes=0-6' } })
    t.equal(part.status, 206)
    t.equal(await part.text(), 'id,text')
  })
)

beside('@fastify/reply-from', 'exports pass a gateway whole or broken', async (t) => {
  const upstream = await serveBeside(t, () => {}, exports)
  const gateway = await serveBeside(
    t,
    (app) => app.register(official('@fastify/reply-from'), { base: upstream.url }),
    (app) => app.get('/*', (_request, reply: any) => reply.from())
  )
  for (const coding of ['identity', 'gzip']) {
    const told = upstream.receipt()
    const response = await fetch(`${gateway.url}/whole.csv`, { headers: { 'accept-encoding': coding } })
    t.ok((await response.text()) === whole, coding)
    t.match(response.headers.get('content-disposition'), /whole\.csv/)
    const { id, status, rows } = await told
    t.same([id, status, rows], [response.headers.get('export-id'), 'complete', rowCount])
  }
  t.equal((await fetch(`${gateway.url}/early.csv`)).status, 404)
  t.equal((await curl(`${gateway.url}/late.csv`)).code, 18, 'seen on HTTP/1.1')
  t.equal((await curl('--http1.0', `${gateway.url}/late.csv`)).code, 0, 'not seen on HTTP/1.0')
  for (const [{ url }, rows] of [
    [upstream, String(rowCount)],
    [gateway, undefined]
  ] as const) {
    const [response] = await once(get(`${url}/whole.csv`, { headers: { te: 'trailers' } }), 'response')
    await once(response.resume(), 'end')
    t.equal(response.trailers['export-rows'], rows)
  }
})

beside('@fastify/reply-from', 'a refusal is asked for again, unless retryDelay says no', async (t) => {
  let asked = 0
  const upstream = await serveBeside(
    t,
    (app) => app.addHook('onRequest', async () => void asked++),
    (app) =>
      app.get('/', (_request, reply) =>
        reply.csv(() => Promise.reject(Object.assign(new Error('busy'), { statusCode: 503 })))
      )
  )
  for (const [options, times] of [
    [{}, 11],
    [{ retryDelay: () => null }, 1]
  ] as const) {
    const { url } = await serveBeside(
      t,
      (app) => app.register(official('@fastify/reply-from'), { base: upstream.url }),
      (app) => app.get('/', (_request, reply: any) => reply.from('/', options))
    )
    asked = 0
    t.equal((await fetch(url)).status, 503)
    t.equal(asked, times)
  }
})
