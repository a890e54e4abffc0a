import { readFile } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { versionOf } from '../interop/clients.ts'
import { skipWithout } from '../programs.ts'
import { type Download, Site, type Way } from './proxied-exports.ts'
import { type Front, type ProxyServer, proxies } from './proxies.ts'

const breaks: Way[] = ['late', 'limit', 'close']

/** What clients of a proxy see, in the words of the table in docs/failures.md. */
interface Seen {
  'HTTP/1.0': string
  'HTTP/1.1': string
  'HTTP/2': string
  /** When a row is at the client, once it has been yielded. */
  rows: string
  /** When the source learns that a client has left that got all rows there were. */
  left: string
}

const held = 'held back'
const allSeen = { 'HTTP/1.0': 'seen', 'HTTP/1.1': 'seen', 'HTTP/2': 'seen' }

/** What is not as a proxy's cells say, with each setting that its last cell names. */
const changes: Record<string, Record<string, Partial<Seen>>> = {
  nginx: {},
  Apache: {},
  HAProxy: {
    'alpn http/1.1': { 'HTTP/2': 'seen' },
    'option abortonclose': { left: 'at once' },
    'option http-no-delay': { rows: 'at once' }
  },
  Varnish: {
    'without return (pass);': { rows: held, left: 'not at all' },
    'feature=-http2': { 'HTTP/2': 'seen' },
    'set beresp.do_stream = false;': { ...allSeen, rows: held, left: 'not at all' }
  },
  Caddy: { 'flush_interval -1': { left: 'with the next rows' } }
}

/** Checks what is the same behind all proxies, and tells what is not. */
async function measure(t: Test, proxy: ProxyServer, setting: string, rows?: string): Promise<Seen> {
  const site = await Site.start(t, proxy, setting)
  for (const { client } of await end(site, await site.begin('whole', rows === held))) {
    t.equal(client.body, 'first\nsecond\nthird\nEND 3\n', 'a whole file')
  }
  for (const { client } of await end(site, await site.begin('early'))) {
    t.equal(await client.ended(), 22, 'an error reply before the first row')
  }
  const left = await leave(t, site, rows === held)
  const seen: Record<string, Set<string>> = {
    'HTTP/1.0': new Set(),
    'HTTP/1.1': new Set(),
    'HTTP/2': new Set()
  }
  for (const way of breaks) {
    const downloads = await end(site, await site.begin(way, rows === held), way)
    for (const [index, { client }] of downloads.entries()) {
      const { column } = site.front[index] as Front[number]
      seen[column]?.add((await client.ended()) === 0 ? 'not seen' : 'seen')
      t.notMatch(client.body, 'END', `${way}, ${column}: the end mark is missing`)
    }
  }
  const cells = Object.entries(seen).map(([column, words]) => [column, [...words].join(', ')])
  return { ...Object.fromEntries(cells), rows: rows === held ? held : rowsArrive(site), left }
}

/** A row that waits for a timer of the proxy's is late; one that only shares a busy machine is not. */
function rowsArrive({ front, delays }: Site): string {
  const late = front.flatMap(({ column }, index) => {
    const delay = delays[index] as number
    return delay > 100 ? `${(delay / 1000).toFixed(1)} s late on ${column}` : []
  })
  return late.join(', ') || 'at once'
}

async function end(site: Site, downloads: Download[], way?: Way): Promise<Download[]> {
  if (way === 'close') await site.app.close()
  for (const { running } of downloads) running.rest.open()
  await Promise.all(downloads.map(({ client }) => client.ended()))
  return downloads
}

/** When the source is told that its client has left: nothing is to be sent at that time. */
async function leave(t: Test, site: Site, isHeld: boolean): Promise<string> {
  const downloads = await site.begin('leave', isHeld)
  for (const { client } of downloads) {
    if (isHeld) t.equal(client.body, '', 'rows are held back')
    client.leave()
  }
  const stopped = Promise.all(downloads.map(({ running }) => running.stopped.opened))
  await Promise.race([stopped, site.later()])
  const inSilence = downloads.map(({ running }) => running.reason !== undefined)
  for (const { running } of downloads) running.rest.open()
  await (isHeld ? Promise.race([stopped, site.later()]) : stopped)
  const words = downloads.map(({ running: { reason } }, index) => {
    if (reason === undefined) return 'not at all'
    t.match(reason, { code: 'CSV_EXPORT_CLIENT_GONE' })
    return inSilence[index] ? 'at once' : 'with the next rows'
  })
  return [...new Set(words)].join(', ')
}

/** The fields of a proxy's row of the table. */
async function kept(name: string): Promise<string[]> {
  const page = await readFile(new URL('../../docs/failures.md', import.meta.url), 'utf8')
  const row = page.match(new RegExp(`^\\| ${name} .*$`, 'm'))?.[0] ?? ''
  return row
    .split('|')
    .slice(1, -1)
    .map((field) => field.trim())
}

for (const proxy of proxies) {
  const { name, version, package: debian } = proxy.program
  const [command = '', ...args] = version
  const skip =
    skipWithout(`${name} (${debian})`, command, ...args) || skipWithout('openssl', 'openssl', 'version')
  t.test(`docs/failures.md says what is seen behind ${name}`, { skip, timeout: 60_000 }, async (t) => {
    const row = await kept(name)
    const minor = versionOf(proxy.program)?.split('.').slice(0, 2).join('.')
    const seen = await measure(t, proxy, '')
    t.strictSame([`${name} ${minor}`, ...Object.values(seen)], row.slice(0, -1))
    for (const [setting, change] of Object.entries(changes[name] ?? {})) {
      t.test(setting, async (t) => {
        t.match(row.at(-1), `\`${setting.replace(/^without /, '')}\``, 'the table names it')
        t.strictSame(await measure(t, proxy, setting, change.rows), { ...seen, ...change })
      })
    }
  })
}
