import t from 'tap'
import { curl } from '../helper.ts'
import { Victim } from './attack.ts'
import { names } from './subjects/others.ts'

// On ecf8ce8, 16 of 57 assertions fail: the process ends.

t.test('a hook gives the reply', async (t) => {
  const victim = await Victim.start(t, new URL('subjects/others.ts', import.meta.url))
  for (const hook of names) {
    const query = `?${new URLSearchParams({ hook })}`
    for (const te of ['', 'trailers']) {
      t.test(`${hook}, TE: ${te}`, async (t) => {
        t.test('a whole body', async (t) => {
          const { id, url, args } = await victim.prepare(`/whole${query}`)
          t.match(await curl('--header', `te: ${te}`, ...args, url), { code: 0, body: 'id\n1\n' })
          await victim.checkSurvived(t, id, { status: 'complete' })
        })

        t.test('an error before the first byte is a reply', async (t) => {
          const { id, url, args } = await victim.prepare(`/early${query}`)
          const { code, body } = await curl('--include', '--header', `te: ${te}`, ...args, url)
          t.match({ code, body }, { code: 0, body: /^HTTP\/1\.1 500 .*\r\n\r\n\{/s })
          await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'Error' })
        })

        t.test('an error after it is a break', async (t) => {
          const { id, url, args } = await victim.prepare(`/late${query}`)
          const { code } = await curl('--header', `te: ${te}`, ...args, url)
          t.ok([18, 56].includes(code), `curl ${code}`)
          await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'Error' })
        })
      })
    }
  }
})
