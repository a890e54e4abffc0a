import t from 'tap'
import { curl, gate, serve } from '../../../helper.ts'

t.test('each chunk reaches the client when it is yielded', async (t) => {
  const gates = [gate(), gate(), gate()]
  const chunks = ['first\n', Buffer.from('zweites: ü\n'), new Uint8Array([0x21, 0x0a])]
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.streamText(
        (async function* () {
          for (const [index, chunk] of chunks.entries()) {
            await gates[index]?.opened
            yield chunk
          }
        })()
      )
    )
  })
  gates[0]?.open()
  const response = await fetch(url)
  t.equal(response.headers.get('content-type'), 'text/plain; charset=utf-8')
  t.equal(response.headers.get('content-disposition'), null)
  t.equal(response.headers.get('x-accel-buffering'), 'no')
  t.equal(response.headers.get('cache-control'), 'no-store')
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  for (const [index, text] of ['first\n', 'zweites: ü\n', '!\n'].entries()) {
    t.equal((await reader?.read())?.value, text)
    gates[index + 1]?.open()
  }
  t.ok((await reader?.read())?.done)
})

t.test('a silent stream says something in time', async (t) => {
  const silence = gate()
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.streamText(
        (async function* () {
          await silence.opened
          yield 'end\n'
        })(),
        { type: 'text/event-stream', heartbeat: { every: 5, text: ': alive\n' } }
      )
    )
  })
  const response = await fetch(url)
  t.equal(response.headers.get('content-type'), 'text/event-stream')
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''
  while (!/(: alive\n){3}/.test(text)) text += (await reader?.read())?.value
  silence.open()
  for (;;) {
    const step = await reader?.read()
    if (step?.done) break
    text += step?.value
  }
  t.match(text, /^(: alive\n)+end\n$/)
})

t.test('a heartbeat waits for a client that does not read', async (t) => {
  const written: number[] = []
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) => {
      const { write } = reply.raw
      // Never says that the chunk has been taken, and wants no more.
      reply.raw.write = function (this: typeof reply.raw, chunk: string | Uint8Array) {
        written.push(Buffer.byteLength(chunk))
        write.call(this, chunk, 'utf8')
        return false
      } as typeof write
      return reply.streamText(
        (async function* () {
          yield 'x'
          await new Promise((resolve) => setTimeout(resolve, 50))
        })(),
        { heartbeat: { every: 1, text: 'alive' } }
      )
    })
  })
  t.equal((await curl('--max-time', '0.5', url)).body, 'x')
  t.same(written, [1])
})

t.test('a chunk that is no text', async (t) => {
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) => reply.streamText([{} as any]))
    app.get('/rows', (_request, reply) => reply.streamText(5 as any))
  })
  t.match(await (await fetch(url)).json(), {
    code: 'CSV_EXPORT_INVALID_CHUNK',
    message: /chunk 1 is a value of type object/
  })
  t.match(await (await fetch(`${url}/rows`)).json(), {
    code: 'CSV_EXPORT_INVALID_ROWS',
    message: /^chunks must be .* got 5$/
  })
})

t.test('wrong options', async (t) => {
  const wrong: [any, string, RegExp][] = [
    [
      { heartbeat: { every: 0, text: 'x' } },
      'CSV_EXPORT_INVALID_OPTION',
      /"heartbeat" must be \{ every, text \}/
    ],
    [{ heartbeat: { every: 2 ** 31, text: 'x' } }, 'CSV_EXPORT_INVALID_OPTION', /"heartbeat"/],
    [{ heartbeat: { every: 10, text: '' } }, 'CSV_EXPORT_INVALID_OPTION', /"heartbeat"/],
    [{ heartbeat: 5 }, 'CSV_EXPORT_INVALID_OPTION', /"heartbeat" .* got 5/],
    [{ type: 5 }, 'CSV_EXPORT_INVALID_OPTION', /"type" must be a string, got 5/],
    [
      { heartBeat: {} },
      'CSV_EXPORT_UNKNOWN_OPTION',
      /unknown option "heartBeat": did you mean "heartbeat"\?/
    ],
    ['text', 'CSV_EXPORT_INVALID_OPTION', /"options" must be an object, got "text"/]
  ]
  const { url } = await serve(t, (app) => {
    app.get<{ Params: { index: number } }>('/:index', (request, reply) =>
      reply.streamText(['never sent'], wrong[request.params.index]?.[0])
    )
  })
  for (const [index, [, code, message]] of wrong.entries()) {
    const response = await fetch(`${url}/${index}`)
    t.equal(response.status, 500)
    t.match(await response.json(), { code, message })
  }
})
