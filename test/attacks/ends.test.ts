import type { Test } from 'tap'
import t from 'tap'
import { Victim } from './attack.ts'
import { ends, endsOfHttp1, endsOfHttp2, handlers } from './subjects/ends.ts'
import { ask, isBroken, type Version } from './wire.ts'

// Whatever ends a reply while its body runs, what the client has got is not taken for the file, nor is the client blamed.

const unbroken = 'a reply that others end while its body runs is reset'
const blamed = 'the receipt says that the server has ended it'
const unended = 'a stream that others end without a head is ended'

/** Those that today end a reply so that it looks whole, by version and by whether something of it has gone. */
const looksWhole: Record<Version, { before: RegExp; after: RegExp }> = {
  '1.0': {
    before: /^(raw\.end|a handler that (returns (null|text)|sends another|ends raw))/,
    after: /^(?!socket\.resetAndDestroy)/
  },
  '1.1': {
    before: /^(raw\.end|a handler that (returns (null|text)|sends another|ends raw))/,
    after: /^(raw\.end|a handler that ends raw)/
  },
  '2': {
    before: /^(raw\.end|a handler that (returns null|returns text|sends another|ends raw))/,
    after: /^(raw\.(destroy\(\)|end)|closeIdle|stream\.(close\(\)|destroy\(\)|end)|a handler that ends raw)/
  }
}

/** Those whose receipt does not blame the client today. */
const isRightlyBlamed = (what: string, isLate: boolean) =>
  /^raw\.end|ends raw$/.test(what) || (!isLate && what.startsWith('a handler'))

/** It was not the client. */
const ofServer = /^(?!client|complete)/ as unknown as 'source_failed'

const hangs = (version: Version, what: string, isLate: boolean) =>
  version === '2' && (what.startsWith('request.raw.destroy') || (!isLate && what === 'stream.end()'))

const versions: Version[] = ['1.0', '1.1', '2']

async function attack(t: Test, victim: Victim, version: Version, path: string, what: string): Promise<void> {
  for (const isLate of [false, true]) {
    const when = isLate ? 'after the first byte' : 'before it'
    t.test(`${what}, ${when}`, async (t) => {
      const { id, url, headers } = await victim.prepare(`${path}&late=${isLate}`)
      const seen = await ask(version, url, headers)
      const { before, after } = looksWhole[version]
      const missing = (isLate ? after : before).test(what) && unbroken
      // Without a status line nothing can be taken for a file.
      const isTold = isBroken(version, seen) || seen.end === 'none' || (seen.status ?? 500) >= 500
      t.ok(isTold, `${seen.status} ${seen.end}`, { todo: missing })
      t.not(seen.end, 'none', 'it has an end', { todo: hangs(version, what, isLate) && unended })
      t.ok(await victim.said(id, 'let go', 500), 'the source is told')
      await victim.checkSurvived(
        t,
        id,
        { status: ofServer, errorCode: /./ },
        isRightlyBlamed(what, isLate) ? {} : { receipt: blamed }
      )
    })
  }
}

for (const version of versions) {
  t.test(`a reply is ended by others, HTTP/${version}`, async (t) => {
    const subject = new URL('subjects/ends.ts', import.meta.url)
    const victim = await Victim.start(t, subject, version === '2' ? 'http2' : 'http1')
    for (const end of Object.keys({ ...ends, ...(version === '2' ? endsOfHttp2 : endsOfHttp1) })) {
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
    const victim = await Victim.start(t, new URL('subjects/timeouts.ts', import.meta.url))
    await attack(t, victim, version, '/end?end=', 'connectionTimeout')
  })
}
