import type { Test } from 'tap'
import t from 'tap'
import { Victim } from '../attack.ts'
import { ends, endsOfHttp1, endsOfHttp2, handlers } from '../subjects/ends.ts'
import { ask, isBroken, type Version } from '../wire.ts'

// Whatever ends a reply while its body runs, what the client has got is not taken for the file, nor is the client blamed.
// On ecf8ce8, 331 of 1147 assertions fail: `raw.destroy()` is a whole 200.

/** It was not the client. */
const ofServer = /^(?!client|complete)/ as unknown as 'source_failed'

const versions: Version[] = ['1.0', '1.1', '2']

async function attack(t: Test, victim: Victim, version: Version, path: string, what: string): Promise<void> {
  for (const isLate of [false, true]) {
    const when = isLate ? 'after the first byte' : 'before it'
    t.test(`${what}, ${when}`, async (t) => {
      const { id, url, headers } = await victim.prepare(`${path}&late=${isLate}`)
      const seen = await ask(version, url, headers)
      // Without a status line nothing can be taken for a file.
      const isTold = isBroken(version, seen) || seen.end === 'none' || (seen.status ?? 500) >= 500
      t.ok(isTold, `${seen.status} ${seen.end}`)
      t.not(seen.end, 'none', 'it has an end')
      t.ok(await victim.said(id, 'let go', 500), 'the source is told')
      await victim.checkSurvived(t, id, { status: ofServer, errorCode: /./ })
    })
  }
}

for (const version of versions) {
  t.test(`a reply is ended by others, HTTP/${version}`, async (t) => {
    const subject = new URL('../subjects/ends.ts', import.meta.url)
    const victim = await Victim.start(t, subject, version === '2' ? 'http2' : 'http1')
    for (const end of Object.keys({ ...ends, ...(version === '2' ? endsOfHttp2 : endsOfHttp1) })) {
      // On HTTP/2 it ends nothing but the reading of the request.
      if (version === '2' && end.startsWith('request.raw')) continue
      await attack(t, victim, version, `/end?${new URLSearchParams({ end })}`, end)
    }
    for (const handler of Object.keys(handlers)) {
      const path = `/handler?${new URLSearchParams({ handler })}`
      await attack(t, victim, version, path, `a handler that ${handler}`)
    }
  })
}

for (const version of ['1.0', '1.1'] as Version[]) {
  t.test(`connectionTimeout, HTTP/${version}`, async (t) => {
    const victim = await Victim.start(t, new URL('../subjects/timeouts.ts', import.meta.url))
    await attack(t, victim, version, '/end?end=', 'connectionTimeout')
  })
}
