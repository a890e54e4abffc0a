import t from 'tap'
import { Victim } from '../attack.ts'
import { names, paths } from '../subjects/forgotten.ts'
import { ask, type Seen, type Version } from '../wire.ts'

// An async handler that returns nothing: Fastify replies a second time, with nothing, while the body runs.
// On ecf8ce8, 278 of 828 assertions fail: an empty 200.

const whole = /^(id\n1\n|text)$/

const isTold = ({ status, end, body }: Seen) =>
  end === 'whole' && ((status === 500 && /CSV_EXPORT_/.test(body)) || (status !== 500 && whole.test(body)))

for (const version of ['1.0', '1.1', '2'] as Version[]) {
  t.test(`a handler forgets to return, HTTP/${version}`, async (t) => {
    const subject = new URL('../subjects/forgotten.ts', import.meta.url)
    const victim = await Victim.start(t, subject, version === '2' ? 'http2' : 'http1')
    for (const [index, name] of names.entries()) {
      for (const path of [...paths, 'in-error-handler', 'in-prehandler']) {
        t.test(`${path}, ${name}`, async (t) => {
          const { id, url, headers } = await victim.prepare(`/${index}/${path}`)
          const seen = await ask(version, url, headers)
          const shown = `${seen.status} ${seen.end} ${seen.body.slice(0, 160)}`
          t.ok(isTold(seen), `the file, or an error that says what to do: ${shown}`)
          // Not before there is an end to tell: refused as the second, the other goes on.
          const receipt = await victim.receipt(id, 500)
          // Refused before it began, it has none.
          if (receipt === undefined && seen.status === 500) return
          const status = whole.test(seen.body) ? 'complete' : (/^(?!complete)/ as unknown as 'abandoned')
          await victim.checkSurvived(t, id, { status })
        })
      }

      t.test(`HEAD, ${name}`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/${index}/rows`)
        const { status } = await ask(version, url, headers, { method: 'HEAD' })
        t.ok(status, `${status}`)
        await victim.checkSurvived(t, id, undefined)
      })
    }
  })
}
