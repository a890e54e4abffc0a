import { Buffer } from 'node:buffer'
import { get } from 'node:http'
import t from 'tap'
import { gate, serve } from '../../../helper.ts'

/** The chunks of a body as the server framed them: what `curl --raw` shows. */
async function rawChunks(url: string): Promise<number[]> {
  const { hostname, port, pathname } = new URL(url)
  const { connect } = await import('node:net')
  const socket = connect(Number(port), hostname)
  socket.write(`GET ${pathname} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n`)
  const received: Buffer[] = []
  for await (const data of socket) received.push(data)
  let rest = Buffer.concat(received)
  rest = rest.subarray(rest.indexOf('\r\n\r\n') + 4)
  const sizes: number[] = []
  for (;;) {
    const lineEnd = rest.indexOf('\r\n')
    const size = Number.parseInt(rest.subarray(0, lineEnd).toString(), 16)
    if (size === 0) return sizes
    sizes.push(size)
    rest = rest.subarray(lineEnd + 2 + size + 2)
  }
}

t.test('a row reaches the client while the source waits for the next', async (t) => {
  const second = gate()
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv(
        (async function* () {
          yield { a: 1 }
          await second.opened
          yield { a: 2 }
        })()
      )
    )
  })
  const response = await fetch(url)
  const reader = response.body?.getReader() as ReadableStreamDefaultReader<Uint8Array>
  t.equal(Buffer.from((await reader.read()).value as Uint8Array).toString(), 'a\n1\n')
  second.open()
  t.equal(Buffer.from((await reader.read()).value as Uint8Array).toString(), '2\n')
  t.ok((await reader.read()).done)
})

t.test('a fast source makes chunks of the given size', async (t) => {
  const row = ['x'.repeat(99)]
  const sources = {
    async: async function* () {
      for (let number = 0; number < 10_000; number++) yield row
    },
    sync: function* () {
      for (let number = 0; number < 10_000; number++) yield row
    }
  }
  for (const [name, source] of Object.entries(sources)) {
    const { url } = await serve(t, (app) => {
      app.get('/', (_request, reply) => reply.csv(source(), { header: false, chunkSize: 20_000 }))
    })
    t.same(await rawChunks(url), Array(50).fill(20_000), name)
  }
})

t.test('chunkSize 0 sends every row by itself', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.csv([['a'], ['b']], { header: false, chunkSize: 0 }))
  })
  t.same(await rawChunks(url), [2, 2])
})

t.test('chunks are as large in every script, and a row that is larger is cut', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get<{ Params: { length: string } }>('/:length', ({ params }, reply) =>
      reply.csv(Array(1_000_000 / Number(params.length)).fill(['東'.repeat(Number(params.length))]), {
        header: false
      })
    )
  })
  for (const length of [1, 100, 50_000]) {
    const sizes = (await rawChunks(`${url}/${length}`)).slice(0, -1)
    t.ok(sizes.length > 30 && sizes.every((size) => size > 65_536 * 0.7 && size < 65_536 * 1.5), `${sizes}`)
  }
})

t.test('other requests are served while a fast source runs', async (t) => {
  let rows = 0
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv(
        (async function* () {
          for (; rows < 300_000; rows++) yield ['some text', rows]
        })(),
        { header: false, chunkSize: 65_536 }
      )
    )
    app.get('/json', async () => ({ rows }))
  })
  const download = fetch(url).then((response) => response.text())
  while (rows === 0) await new Promise(setImmediate)
  for (let request = 0; request < 5; request++) {
    const { rows: before } = (await (await fetch(`${url}/json`)).json()) as { rows: number }
    t.ok(before < 300_000, `answered at row ${before}`)
  }
  await download
})

t.test('the pace is the client’s', async (t) => {
  let rows = 0
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv(
        (async function* () {
          for (; rows < 1000; rows++) {
            yield ['x'.repeat(100_000)]
            // A source that pauses after each row must not fill memory either.
            await new Promise(setImmediate)
          }
        })(),
        { header: false }
      )
    )
  })
  const response = await new Promise<import('node:http').IncomingMessage>((resolve) => get(url, resolve))
  response.pause()
  let seen = -1
  while (seen !== rows) {
    seen = rows
    for (let turn = 0; turn < 1000; turn++) await new Promise(setImmediate)
  }
  t.ok(rows < 300, `the source rests after ${rows} of 1000 rows`)
  let bytes = 0
  for await (const chunk of response) bytes += chunk.length
  t.equal(bytes, 1000 * 100_001, 'and goes on when the client does')
})
