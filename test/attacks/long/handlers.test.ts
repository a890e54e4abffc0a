import t from 'tap'
import { Victim } from '../attack.ts'
import { places } from '../subjects/handlers.ts'
import { ask, isBroken, type Version } from '../wire.ts'

// An export may be the reply of an error handler, too, also after one that failed before its first byte.
// On ecf8ce8, 3 of 375 assertions fail: an error handler loses the chunked coding.

for (const version of ['1.0', '1.1', '2'] as Version[]) {
  t.test(`an export is sent from somewhere else, HTTP/${version}`, async (t) => {
    const subject = new URL('../subjects/handlers.ts', import.meta.url)
    const victim = await Victim.start(t, subject, version === '2' ? 'http2' : 'http1')
    for (const [index, place] of Object.keys(places).entries()) {
      for (const te of ['', 'trailers']) {
        t.test(`from ${place}, TE: ${te}`, async (t) => {
          const { id, url, headers } = await victim.prepare(`/whole/${index}`)
          const seen = await ask(version, url, te === '' ? headers : { ...headers, te })
          t.match(seen, { body: 'id\n1\n2\n', end: 'whole' }, 'the file')
          if (version === '1.1') t.match(seen.head, /transfer-encoding: chunked/i, 'in chunks')
          await victim.receipt(id, 500)
          await victim.checkSurvived(t, id, { status: 'complete' })
        })

        t.test(`a late error of one from ${place}, TE: ${te}`, async (t) => {
          const { id, url, headers } = await victim.prepare(`/late/${index}`)
          const seen = await ask(version, url, te === '' ? headers : { ...headers, te })
          t.ok(isBroken(version, seen), `${seen.status} ${seen.end}`)
          await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'LATE' })
        })
      }
    }
  })
}
