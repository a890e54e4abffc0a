import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { FastifyReply } from 'fastify'
import t from 'tap'
import type { CsvOptions } from '../../plugins/csv-export/index.ts'
import { gate } from '../helper.ts'
import { watch } from './watch.ts'

// On ecf8ce8, 55 of 286 assertions fail: ours overwrite those of others.

const row = { id: 1 }

/** As other packages set them: only where there is none yet. */
const setters: Record<string, (reply: FastifyReply, name: string, value: string) => void> = {
  'reply.header(), if there is none': (reply, name, value) => {
    if (!reply.hasHeader(name)) reply.header(name, value)
  },
  'reply.getHeader() is asked': (reply, name, value) => {
    if (reply.getHeader(name) === undefined) reply.header(name, value)
  },
  'reply.header()': (reply, name, value) => void reply.header(name, value),
  'reply.raw.setHeader()': (reply, name, value) => void reply.raw.setHeader(name, value),
  'reply.raw.setHeader(), if there is none': (reply, name, value) => {
    if (!reply.hasHeader(name) && !reply.raw.hasHeader(name)) reply.raw.setHeader(name, value)
  }
}

const ours: Record<string, { value: string; options?: CsvOptions<any> }> = {
  'cache-control': { value: 'private, max-age=60' },
  'x-content-type-options': { value: 'sniff' },
  'x-accel-buffering': { value: 'yes' },
  'content-disposition': { value: 'inline', options: { filename: 'ours.csv' } }
}

t.test("another plugin's header of the same name wins", async (t) => {
  for (const [how, set] of Object.entries(setters)) {
    for (const hook of ['onRequest', 'preHandler', 'onSend'] as const) {
      for (const [name, { value, options = {} }] of Object.entries(ours)) {
        for (const http2 of [false]) {
          t.test(`${name} by ${how} in ${hook}`, async (t) => {
            const { url, receipt } = await watch(
              t,
              (app) => {
                if (hook === 'onSend') {
                  app.addHook('onSend', async (_request, reply, payload) => {
                    set(reply, name, value)
                    return payload
                  })
                } else app.addHook(hook, async (_request, reply) => set(reply, name, value))
                app.get('/', (_request, reply) => reply.csv([row], options))
              },
              { http2 }
            )
            const response = await fetch(url)
            t.equal(response.headers.get(name), value, 'theirs')
            t.equal(await response.text(), 'id\n1\n')
            t.match(await receipt(), { status: 'complete' })
          })
        }
      }
    }
  }

  t.test('ours are there where nobody sets them', async (t) => {
    const { url } = await watch(t, (app) =>
      app.get('/', (_request, reply) => reply.csv([row], { filename: 'a.csv' }))
    )
    const { headers } = await fetch(url)
    t.match(Object.fromEntries(headers), {
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-accel-buffering': 'no',
      'content-disposition': 'attachment; filename=a.csv'
    })
  })

  t.test('Content-Type and Content-Encoding are there for hooks', async (t) => {
    const seen = gate<(unknown | undefined)[]>()
    const { url } = await watch(t, (app) => {
      app.addHook('onSend', async (_request, reply, payload) => {
        seen.open([reply.getHeader('content-type'), reply.hasHeader('content-encoding')])
        return payload
      })
      app.get('/', (_request, reply) => reply.csv([row], { compress: true }))
    })
    await fetch(url, { headers: { 'accept-encoding': 'gzip' } })
    t.strictSame(await seen.opened, ['text/csv; charset=utf-8; header=present', true])
  })
})

const many = () => Array.from({ length: 5_000 }, (_, id) => ({ id }))

t.test('Content-Encoding is a string, or not there', async (t) => {
  const bodies: Record<string, { rows: object[]; coding: string | undefined }> = {
    'a large one': { rows: many(), coding: 'gzip' },
    'a small one': { rows: [row], coding: undefined },
    'an empty one': { rows: [], coding: undefined }
  }
  for (const [name, { rows, coding }] of Object.entries(bodies)) {
    for (const payloadAsStream of [false, true]) {
      t.test(`inject() of ${name}, payloadAsStream: ${payloadAsStream}`, async (t) => {
        const { app } = await watch(t, (app) =>
          app.get('/', (_request, reply) => reply.csv(rows, { compress: true }))
        )
        const { headers } = await app.inject({
          url: '/',
          headers: { 'accept-encoding': 'gzip' },
          payloadAsStream
        } as object)
        t.equal(headers['content-encoding'], coding)
      })
    }
    t.test(`on the wire, of ${name}`, async (t) => {
      const { url } = await watch(t, (app) =>
        app.get('/', (_request, reply) => reply.csv(rows, { compress: true }))
      )
      const request = get(url, { agent: false, headers: { 'accept-encoding': 'gzip' } })
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      // To the end, as the server that closes with the test would break it.
      await buffer(response)
      t.equal(response.headers['content-encoding'], coding)
      t.equal(
        response.rawHeaders.filter((header) => /^content-encoding$/i.test(header)).length,
        coding ? 1 : 0
      )
    })
  }

  t.test('as a hook of others reads it', async (t) => {
    for (const hook of ['onSend', 'onResponse'] as const) {
      const seen = gate<unknown>()
      const { url } = await watch(t, (app) => {
        if (hook === 'onSend') {
          app.addHook('onSend', async (_request, reply, payload) => {
            seen.open(reply.getHeader('content-encoding'))
            return payload
          })
        } else
          app.addHook('onResponse', async (_request, reply) => seen.open(reply.getHeader('content-encoding')))
        app.get('/', (_request, reply) => reply.csv(many(), { compress: true }))
      })
      await fetch(url, { headers: { 'accept-encoding': 'gzip' } }).then((response) => response.text())
      t.type(await seen.opened, 'string', hook)
    }
  })

  t.test('HEAD and a body that a hook replaces', async (t) => {
    for (const method of ['HEAD', 'GET']) {
      const { app } = await watch(t, (app) => {
        app.addHook('onSend', async (_request, _reply, payload) =>
          method === 'GET' ? 'other' : (payload as Readable)
        )
        app.get('/', (_request, reply) => reply.csv(many(), { compress: true }))
      })
      const { headers } = await app.inject({
        url: '/',
        method: method as 'GET',
        headers: { 'accept-encoding': 'gzip' }
      })
      t.equal(headers['content-encoding'], undefined, method)
    }
  })
})

t.test('Retry-After while the server closes', async (t) => {
  for (const return503OnClosing of [true, false]) {
    for (const path of ['/other', '/export']) {
      t.test(`return503OnClosing: ${return503OnClosing}, ${path}`, async (t) => {
        const started = gate()
        const goOn = gate()
        const { app, url } = await watch(
          t,
          (app) => {
            app.get('/slow', (_request, reply) =>
              reply.csv(async function* () {
                yield row
                started.open()
                await goOn.opened
              })
            )
            app.get('/other', async () => 'other')
            app.get('/export', (_request, reply) => reply.csv([row]))
          },
          { server: { return503OnClosing }, defaults: { closeGrace: 5_000, maxConcurrent: 0 } }
        )
        // Two connections that are open when the close begins.
        const connection = async (path: string) => {
          const { port } = new URL(url)
          const socket = (await import('node:net')).connect(Number(port), '127.0.0.1').on('error', () => {})
          socket.setEncoding('latin1')
          await once(socket, 'connect')
          return { socket, send: () => socket.write(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`) }
        }
        const slow = await connection('/slow')
        const other = await connection(path)
        slow.send()
        slow.socket.resume()
        await started.opened
        const closed = app.close()
        // The hooks of a close run in turns of their own.
        for (let passed = 0; passed < 20; passed++) await new Promise(setImmediate)
        other.send()
        const [text] = (await once(other.socket, 'data')) as [string]
        goOn.open()
        await closed
        slow.socket.destroy()
        other.socket.destroy()
        const isServed = !return503OnClosing && path === '/other'
        t.equal(Number(text.split(' ')[1]), isServed ? 200 : 503)
        t.equal(/^retry-after: 10\r$/im.test(text), !isServed, 'Retry-After is for who was refused')
      })
    }
  }
})
