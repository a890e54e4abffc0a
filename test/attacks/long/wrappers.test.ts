import { gunzipSync } from 'node:zlib'
import t from 'tap'
import { Victim } from '../attack.ts'
import { many } from '../subjects/pace.ts'
import { wrappers } from '../subjects/wrappers.ts'
import { ask, isBroken, type Seen, type Version } from '../wire.ts'

// Middleware such as compression() takes over the methods of a response, and drops the callback of a write.
// On ecf8ce8, 80 of 180 assertions fail: the export hangs.

const rows = [...many()].map(({ id, text }) => `${id},${text}\n`).join('')
const bodies = { '/whole': `id,text\n${rows}`, '/pausing': `id,text\n${rows}${rows}` }

const decoded = ({ head, body }: Seen) =>
  /^content-encoding: gzip/im.test(head) ? gunzipSync(Buffer.from(body, 'latin1')).toString() : body

for (const version of ['1.0', '1.1', '2'] as Version[]) {
  t.test(`a response's methods are wrapped, HTTP/${version}`, async (t) => {
    const subject = new URL('../subjects/wrappers.ts', import.meta.url)
    const victim = await Victim.start(t, subject, version === '2' ? 'http2' : 'http1')
    for (const wrapper of Object.keys(wrappers)) {
      const query = `?${new URLSearchParams({ wrapper })}`
      for (const [path, body] of Object.entries(bodies)) {
        t.test(`${wrapper}, ${path}`, async (t) => {
          const { id, url, headers } = await victim.prepare(path + query)
          const seen = await ask(version, url, headers)
          t.match(seen, { status: 200, end: 'whole' }, 'the end')
          // A body that is not whole cannot be decoded.
          if (seen.end === 'whole') t.ok(decoded(seen) === body, 'the body')
          await victim.checkSurvived(t, id, { status: 'complete' })
        })
      }

      t.test(`${wrapper}, a late error`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/late${query}`)
        const seen = await ask(version, url, headers)
        t.ok(isBroken(version, seen), `${seen.status} ${seen.end}`)
        await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'LATE' })
      })

      t.test(`${wrapper}, a client that leaves`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/gone${query}`)
        await ask(version, url, headers, { meanwhile: ({ begun, leave }) => begun().then(leave) })
        await victim.checkSurvived(t, id, { status: 'client_gone' })
      })

      t.test(`${wrapper}, a client that stalls`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/stalled${query}`)
        await ask(version, url, headers, {
          async meanwhile({ begun, pause, leave }) {
            await begun()
            pause()
            await victim.receipt(id)
            leave()
          }
        })
        await victim.checkSurvived(t, id, { status: 'client_stalled' })
      })
    }
  })
}
