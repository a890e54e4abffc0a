import t from 'tap'
import { exchange, Victim } from './attack.ts'

// Node turns chunks, and with them trailers, off for every HTTP version x.0, and throws where a Trailer header is left.
// On ecf8ce8, 92 of 216 assertions fail: the process ends.

t.test('a version of HTTP without chunks', async (t) => {
  const victim = await Victim.start(t, new URL('subjects/versions.ts', import.meta.url))
  const whole = 'id\n1\n2\n'
  const bodies = {
    '/pausing': whole,
    '/coded': /^id,text\n1,.*\n20000,.*\n$/s,
    '/empty': '',
    '/committed': whole,
    '/flushed': whole,
    '/heartbeat': /^\n+id\n1\n2\n$/,
    '/announced': whole,
    '/own': whole
  }
  for (const version of ['HTTP/2.0', 'HTTP/1.0', 'HTTP/0.9']) {
    for (const te of ['trailers', 'chunked, trailers']) {
      for (const [path, body] of Object.entries(bodies)) {
        t.test(`${version}, TE: ${te}, ${path}`, async (t) => {
          const { id, url } = await victim.prepare(path)
          const headers = `host: a\r\nte: ${te}\r\naccept-encoding: gzip\r\nx-export: ${id}\r\n`
          const reply = await exchange(url, `GET ${path} ${version}\r\n${headers}\r\n`)
          t.match(reply, { status: 200, body, isReset: false }, 'the whole body')
          t.notMatch(reply.head, /trailer|chunked/i)
          await victim.checkSurvived(t, id, { status: 'complete' })
        })
      }
    }
  }

  for (const version of ['HTTP/3.0', 'HTTP/1.2', 'HTTP/9.9']) {
    t.test(`${version}: Node itself refuses it`, async (t) => {
      const { id, url } = await victim.prepare('/pausing')
      const reply = await exchange(url, `GET /pausing ${version}\r\nte: trailers\r\n\r\n`)
      t.match(reply, { status: 400 })
      await victim.checkSurvived(t, id, undefined)
    })
  }
})
