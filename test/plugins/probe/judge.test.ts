import t from 'tap'
import { type Finding, judge } from '../../../plugins/probe/judge.ts'
import type { Measures, PacedReply } from '../../../plugins/probe/measure.ts'
import { paceOf } from '../../../plugins/probe/pace.ts'

const interval = 100
const rowCount = 10

interface Way {
  version?: PacedReply['version']
  /** When the row of each number comes, in milliseconds; undefined is never. */
  comes?: (number: number) => number | undefined
  httpVersion?: string
  coding?: string
  asksTrailers?: boolean
  headers?: PacedReply['headers']
  trailers?: PacedReply['trailers']
  brokenBy?: string
}

/** A server's clock is an hour ahead. */
function reply({ version = '1.1', httpVersion = '1.1', coding = '', ...way }: Way = {}): PacedReply {
  const { comes = (number) => number * interval, headers = {}, trailers = {}, brokenBy } = way
  const texts = new Map<number, string>()
  for (let number = 1; number <= rowCount; number++) {
    const at = comes(number)
    const line = `${number},${3_600_000 + number * interval},${httpVersion},${coding},${way.asksTrailers ? 1 : 0},\n`
    if (at !== undefined) texts.set(at, (texts.get(at) ?? '') + line)
  }
  const pieces = [...texts].map(([at, text]) => ({ at, text }))
  const got = { status: 200, headers, trailers, pieces, brokenBy }
  return { ...got, ...paceOf(got, interval), version }
}

function measures(others: Partial<Measures> = {}): Measures {
  const seen = { brokenBy: 'ECONNRESET' }
  return {
    ...{ isTls: true, interval, rowCount, plain: reply(), http2: reply({ version: '2' }), coded: reply() },
    longRows: undefined,
    breaks: [
      { version: '1.1', ...seen },
      { version: '2', ...seen },
      { version: '1.0', ...seen }
    ],
    silence: { seconds: 5, brokenBy: undefined },
    ...others
  }
}

const lines = (findings: Finding[]) =>
  findings.map(({ level, text, cause }) => [level, text, cause?.setting].filter(Boolean).join(' | '))

/** What is said besides what is said of a set-up where all is well. */
function said(others: Partial<Measures>): string[] {
  const usual = lines(judge(measures()))
  return lines(judge(measures(others))).filter((line) => !usual.includes(line))
}

const atEnd = () => rowCount * interval
const inTwos = (number: number) => Math.ceil(number / 2) * 2 * interval
const hidden = (version: '1.0' | '1.1' | '2') => [{ version, brokenBy: undefined }]

t.test('what is right is said to be', async (t) => {
  t.same(lines(judge(measures({ http2: undefined, plain: reply({ trailers: { 'export-rows': '10' } }) }))), [
    'ok | HTTP/1.1 is spoken, the app is asked in HTTP/1.1; the first byte comes after 0.1 s.',
    'ok | Rows come as they are sent (HTTP/1.1).',
    'ok | The body is not coded.',
    'ok | A break is seen (HTTP/1.1: ECONNRESET, HTTP/2: ECONNRESET, HTTP/1.0: ECONNRESET).',
    'ok | Trailers arrive (HTTP/1.1).',
    'ok | A silence of 5 s is borne.'
  ])
})

t.test('rows that are held back', async (t) => {
  const lump = 'all come in one lump (10 rows, 0.2 kB, the first of them 0.9 s late)'
  const any = 'nginx: proxy_buffering off; Varnish: return (pass); others: response buffering off'
  t.same(said({ plain: reply({ comes: atEnd }), http2: undefined }), [
    'ok | HTTP/1.1 is spoken, the app is asked in HTTP/1.1; the first byte comes after 1.0 s.',
    `wrong | Rows are held back on HTTP/1.1: ${lump}. | ${any}`
  ])
  const servers = {
    [any]: {},
    'proxy_buffering off; (or take proxy_ignore_headers X-Accel-Buffering; away)': { server: 'nginx/1.22.1' },
    'return (pass); in vcl_recv, and no set beresp.do_stream = false;': { 'x-varnish': '7' }
  }
  for (const [setting, headers] of Object.entries(servers)) {
    const longRows = [1, 3, 2].map((kilobytes) => ({ rows: 1, bytes: kilobytes * 1_000, seconds: 0 }))
    const found = said({ plain: reply({ comes: atEnd, headers }), longRows })
    t.equal(
      found[1],
      `wrong | Rows are held back on HTTP/1.1: ${lump}; long rows come in lumps of about 2.0 kB. | ${setting}`
    )
  }
  const longRows = [{ rows: 64, bytes: 524_288, seconds: 1 }]
  t.match(said({ plain: reply({ comes: atEnd }), longRows })[1], ', and so do 524.3 kB of long rows.')
  t.match(said({ plain: reply({ comes: atEnd }), longRows: [] })[1], 's late). |')
})

t.test('rows that come late', async (t) => {
  t.same(said({ plain: reply({ comes: inTwos }), http2: undefined }).slice(1), [
    'note | Rows come 0.1 s late on HTTP/1.1: 5 lumps, the first of 2 rows, 0.0 kB, the first of them 0.1 s late. | HAProxy: option http-no-delay'
  ])
})

t.test('a machine that is busy once is nothing to speak of', async (t) => {
  t.same(said({ plain: reply({ comes: (number) => (number < 3 ? 300 : number * interval) }) }).slice(1), [])
})

t.test('who has coded', async (t) => {
  const coded = (coding: string, got?: string) =>
    said({ coded: reply({ coding, headers: got === undefined ? {} : { 'content-encoding': got } }) })
  t.same(coded('zstd', 'zstd'), ['ok | The body is coded with zstd, by the plugin.'])
  t.same(coded('', 'gzip'), [
    'note | The body is coded with gzip, not by the plugin: by another one of the app, or in between.'
  ])
  t.same(coded('br', 'gzip'), [
    'note | The plugin codes with br, and gzip comes: something in between codes the body again.'
  ])
  t.match(coded('br'), ['note | The plugin codes with br, and none comes'])
})

t.test('rows that are held back where they are coded', async (t) => {
  const headers = { 'content-encoding': 'gzip' }
  const found = said({ coded: reply({ comes: atEnd, headers }) })
  t.match(found[1], /^wrong \| Rows are held back where they are coded: all come in one lump.*compress: true/)
  const nginx = said({
    coded: reply({ comes: atEnd, headers }),
    plain: reply({ headers: { server: 'nginx' } })
  })
  t.match(nginx[1], /gzip off;/)
  const both = said({ coded: reply({ comes: atEnd, headers }), plain: reply({ comes: atEnd }) })
  t.equal(both.filter((line) => line.includes('held back')).length, 1, 'what holds all back is named once')
})

t.test('a break that is not seen', async (t) => {
  const breakOf = (version: '1.0' | '1.1' | '2', others: Partial<Measures> = {}) =>
    said({ breaks: hidden(version), ...others }).filter((line) => line.includes('break is not seen'))
  t.match(breakOf('1.1'), [/^wrong \| A break is not seen on HTTP\/1.1: a part.*\| another proxy; .*endMark/])
  t.match(breakOf('2'), [/^wrong \|.*HAProxy: alpn http\/1.1.*Varnish: feature=-http2/])
  t.match(breakOf('2', { isTls: false }), [/^note \|.*Few clients speak it without TLS/])
  t.match(breakOf('1.0'), [/^note \|.*what-no-server-can-mend$/])
  const plain = (headers: PacedReply['headers'], httpVersion = '1.1') => ({
    plain: reply({ headers, httpVersion })
  })
  t.match(breakOf('1.1', plain({ server: 'Caddy' })), [/none of Caddy/])
  t.match(breakOf('2', plain({ via: '1.1 Caddy' })), [/none of Caddy/])
  t.match(breakOf('2', plain({ via: '1.1 varnish (Varnish/7.1)' })), [/\| feature=-http2, or endMark/])
  for (const version of ['1.1', '2'] as const) {
    t.match(breakOf(version, plain({}, '1.0')), [/\| proxy_http_version 1.1;/])
  }
})

t.test('an app that is asked in HTTP/1.0', async (t) => {
  const found = said({ plain: reply({ httpVersion: '1.0' }) })
  t.match(found[1], /^wrong \| Something in between asks the app in HTTP\/1.0: .* \| proxy_http_version 1.1;/)
})

t.test('a body that should be whole', async (t) => {
  const half = (number: number) => (number > 5 ? undefined : number * interval)
  t.match(said({ plain: reply({ comes: half, brokenBy: 'ECONNRESET' }) }), [
    'wrong | A body on HTTP/1.1 breaks (ECONNRESET): 5 of 10 rows came.'
  ])
  t.match(said({ http2: reply({ version: '2', comes: half }) }), [
    'wrong | A body on HTTP/2 lacks rows, and looks whole: 5 of 10 rows came.'
  ])
  const other = (number: number) => (number === 10 ? 100 : number * interval)
  t.match(said({ coded: reply({ comes: other }) }), [/lacks rows/])
  const nothing = { comes: () => undefined, brokenBy: 'ETIMEDOUT' }
  t.match(said({ coded: reply(nothing) }), [/0 of 10 rows came/])
  t.match(said({ plain: reply(nothing) }), [
    'ok | HTTP/1.1 and HTTP/2 are spoken; no row says how the app is asked.',
    'wrong | A body on HTTP/1.1 breaks (ETIMEDOUT): 0 of 10 rows came.'
  ])
})

t.test('trailers that do not arrive', async (t) => {
  const found = (asksTrailers: boolean) => lines(judge(measures({ plain: reply({ asksTrailers }) })))
  t.ok(
    found(true).includes(
      'note | No trailers arrive: they are lost on the way back. The receipt says the same.'
    )
  )
  t.match(found(false).join(), 'the app is not told that they are wanted')
})

t.test('a silence that is not borne', async (t) => {
  const silence = { seconds: 65, brokenBy: 'status 504' }
  t.match(said({ silence }), [
    /^wrong \| A silence of 65 s ends the download \(status 504\)\. \|.*timeout server/
  ])
  const plain = reply({ headers: { server: 'nginx' } })
  t.match(said({ silence, plain }), [/\| proxy_read_timeout, longer/])
})
