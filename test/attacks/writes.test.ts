import t from 'tap'
import { curl } from '../helper.ts'
import { skipBefore } from '../programs.ts'
import { Victim } from './attack.ts'

// On ecf8ce8, 92 of 136 assertions fail: the process ends.

t.test('a reply whose methods throw', async (t) => {
  const victim = await Victim.start(t, new URL('subjects/writes.ts', import.meta.url))

  /** Where each is called from a callback of Node's, or from a promise. */
  const attacks: [patch: string, paths: string[]][] = [
    ['the first write, before', ['/pausing', '/coded', '/committed', '/heartbeat']],
    ['the first write, after', ['/pausing', '/coded', '/committed', '/heartbeat']],
    ['the second write', ['/pausing', '/coded', '/committed', '/heartbeat']],
    ['the first writeHead', ['/pausing', '/coded', '/committed', '/flushed', '/heartbeat', '/empty']],
    ['flushHeaders', ['/flushed']],
    ['the first end', ['/pausing', '/coded', '/empty']]
  ]
  for (const [patch, paths] of attacks) {
    for (const path of paths) {
      for (const value of ['a sealed Error', 'an object without prototype']) {
        const skip =
          patch === 'the first write, before' && skipBefore('5.10.0', 'a fallback for a head that has gone')
        t.test(`${patch}, ${path}: ${value}`, { skip }, async (t) => {
          const { id, url, args } = await victim.prepare(`${path}?${new URLSearchParams({ patch, value })}`)
          const { code, body } = await curl(
            ...['--include', '--header', 'accept-encoding: gzip', ...args],
            url
          )
          const isReply = /^HTTP\/1\.1 500 .*\r\n\r\n\{/s.test(body)
          t.ok(isReply ? code === 0 : [18, 52, 56].includes(code), `a whole error or a break: curl ${code}`)
          const errorCode = value === 'a sealed Error' ? 'RangeError' : 'CSV_EXPORT_SOURCE_FAILED'
          await victim.checkSurvived(t, id, { status: 'source_failed', errorCode })
        })
      }
    }
  }

  t.test('the first writeHead, of an empty body that Fastify ends with trailers', async (t) => {
    const { id, url, args } = await victim.prepare('/empty?patch=the+first+writeHead&value=a+sealed+Error')
    const { code, body } = await curl('--include', '--header', 'te: trailers', ...args, url)
    t.match({ code, body }, { code: 0, body: /^HTTP\/1\.1 500 .*\r\n\r\n\{/s })
    await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'RangeError' })
  })
})
