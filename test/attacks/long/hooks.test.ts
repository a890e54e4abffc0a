import t from 'tap'
import { Victim } from '../attack.ts'
import { hooks } from '../subjects/hooks.ts'
import { ask, isBroken, type Version } from '../wire.ts'

// Hooks may read the payload in every way that Node has. What comes of it is the whole file, or an error that is seen.
// On ecf8ce8, 119 of 696 assertions fail: a part is a whole 200, and two stages give no error reply.

const whole = `id,text\n${Array.from({ length: 10_000 }, (_, id) => `${id},some text of a row\n`).join('')}`

const closing = ['pipe', 'two stages of pipe', 'a tee', 'toWeb', "'data'", 'a pipe after a wait']

for (const version of ['1.0', '1.1', '2'] as Version[]) {
  t.test(`a hook reads the payload, HTTP/${version}`, async (t) => {
    const subject = new URL('../subjects/hooks.ts', import.meta.url)
    const victim = await Victim.start(t, subject, version === '2' ? 'http2' : 'http1')
    for (const hook of Object.keys(hooks)) {
      const query = `?${new URLSearchParams({ hook })}`

      t.test(`${hook}: a whole body`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/whole${query}`)
        const { status, body, end } = await ask(version, url, headers)
        t.match({ status, end }, { status: 200, end: 'whole' }, 'the end')
        t.equal(body.length, whole.length, 'its length')
        t.ok(body === whole, 'its text')
        if (/tee/.test(hook) && !/Web/.test(hook)) {
          t.match(await victim.said(id, 'audited'), { value: whole.length }, 'so does the other reader')
        }
        await victim.checkSurvived(t, id, { status: 'complete' })
      })

      t.test(`${hook}: an error after the first byte`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/late${query}`)
        const seen = await ask(version, url, headers)
        // A hook that reads all of it before it gives anything makes it an error before the first byte.
        const isTold = seen.status === 500 || isBroken(version, seen)
        t.ok(isTold, `${seen.status} ${seen.end}`)
        await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'LATE' })
      })

      for (const path of ['early', 'at-once']) {
        t.test(`${hook}: an error before the first byte, ${path}`, async (t) => {
          const { id, url, headers } = await victim.prepare(`/${path}${query}`)
          const { status, body, end } = await ask(version, url, headers)
          const due = { status: 500, end: 'whole', body: /"code":"EARLY"/ }
          t.match({ status, body, end }, due, 'an error reply')
          await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'EARLY' })
        })
      }

      t.test(`${hook}: a limit before the first byte`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/slow${query}`)
        const { status, body, end } = await ask(version, url, headers)
        const due = { status: 503, end: 'whole', body: /"code":"CSV_EXPORT_MAX_DURATION"/ }
        t.match({ status, body, end }, due, 'an error reply')
        await victim.checkSurvived(t, id, { status: 'limit_reached' })
      })

      t.test(`${hook}: its client leaves`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/gone${query}`)
        await ask(version, url, headers, {
          async meanwhile({ leave }) {
            await victim.said(id, 'running')
            leave()
          }
        })
        await victim.checkSurvived(t, id, { status: 'client_gone' })
      })

      t.test(`${hook}: the server's own code ends the reply`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/ended${query}`)
        const seen = await ask(version, url, headers)
        const isTold = (seen.status ?? 500) >= 500 || isBroken(version, seen)
        t.ok(isTold, `${seen.status} ${seen.end}`)
        const errorCode = 'CSV_EXPORT_BODY_DESTROYED'
        await victim.checkSurvived(t, id, { status: 'source_failed', errorCode })
      })

      // Each needs a server of its own.
      if (version !== '1.1' || !closing.includes(hook)) continue
      t.test(`${hook}: the server closes`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/close${query}`)
        let closed: unknown
        const seen = await ask(version, url, headers, {
          // Before the client leaves by itself, after which any server closes.
          async meanwhile() {
            closed = await victim.said(id, 'closed')
          }
        })
        const isTold = (seen.status ?? 0) >= 500 || isBroken(version, seen)
        t.ok(isTold, `${seen.status} ${seen.end}`)
        t.ok(closed, 'nor does it wait for this')
        await victim.stop()
      })
    }
  })
}
