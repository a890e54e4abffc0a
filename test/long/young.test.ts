import { fork } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'

const clients = 20
const loadSize = 16_000

t.test('what an export leaves is garbage that V8 finds at once', async (t) => {
  // No collection of the old space may hide what has come into it.
  const server = fork(new URL('young-server.ts', import.meta.url), {
    execArgv: ['--initial-old-space-size=1024']
  })
  t.teardown(() => server.kill())
  const [url] = await once(server, 'message')
  const { port } = new URL(String(url))
  const oldSpace = async () => {
    server.send('')
    const [size] = await once(server, 'message')
    return Number(size)
  }
  const download = async (count: number) => {
    await Promise.all(Array.from({ length: clients }, () => downloads(Number(port), count / clients)))
  }
  await download(2_000)
  const before = await oldSpace()
  const count = 2_000
  await download(count)
  const grown = (await oldSpace()) - before
  t.ok(grown < (count * loadSize) / 16, `${grown} bytes of ${count * loadSize} have become old`)
})

/** One after the other over one connection. */
async function downloads(port: number, count: number): Promise<void> {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1')
  for (let done = 0; done < count; done++) {
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    for (let response = ''; !response.endsWith('\r\n0\r\n\r\n'); ) {
      const [text] = await once(socket, 'data')
      response += text
    }
  }
  socket.destroy()
}
