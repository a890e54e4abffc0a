import t from 'tap'
import { curl } from '../helper.ts'
import { Victim } from './attack.ts'
import { heads } from './subjects/headers.ts'

// On ecf8ce8, 71 of 84 assertions fail: no error reply, but an end without one.

t.test('a header that cannot be written, with a first row later than commitAfter', async (t) => {
  const victim = await Victim.start(t, new URL('subjects/headers.ts', import.meta.url))
  for (const head of Object.keys(heads)) {
    const query = (wait: number) => `?${new URLSearchParams({ head, wait: String(wait) })}`

    t.test(head, async (t) => {
      const fast = await victim.prepare(`/${query(0)}`)
      const expected = await curl(...fast.args, fast.url)
      const { id, url, args } = await victim.prepare(`/${query(100)}`)
      const { code, body } = await curl('--include', ...args, url)
      t.equal(code, 0)
      t.match(body, /^HTTP\/1\.1 500 /)
      t.notMatch(body, /content-disposition/i)
      t.match(body, /\r\n\r\n\{/)
      const { code: errorCode } = JSON.parse(expected.body)
      t.match(JSON.parse(body.split('\r\n\r\n')[1] as string), { statusCode: 500, code: errorCode })
      await victim.checkSurvived(t, id, { status: 'source_failed', errorCode, bytes: 0 })
    })
  }

  t.test('after the head of the reply has gone', async (t) => {
    for (const version of ['--http1.1', '--http1.0']) {
      const { id, url, args } = await victim.prepare('/sent?head=formula&wait=100')
      const { code } = await curl(version, ...args, url)
      t.ok([18, 56].includes(code), `a visible break: curl ${code}`)
      await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'CSV_EXPORT_FORMULA' })
    }
  })
})
