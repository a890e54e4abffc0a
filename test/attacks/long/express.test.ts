import t from 'tap'
import { curl } from '../../helper.ts'
import { skipBefore } from '../../programs.ts'
import { Victim } from '../attack.ts'
import { ask, isBroken, type Version } from '../wire.ts'

// @fastify/express makes `raw.headersSent` a flag of its own, which stays false.
// On ecf8ce8, 20 of 85 assertions fail: a break is a whole file to HTTP/1.0.

const withoutTimeout = skipBefore('5.12.8', 'a handlerTimeout')

t.test('with @fastify/express', async (t) => {
  const victim = await Victim.start(t, new URL('../subjects/express.ts', import.meta.url))

  t.test('a whole body', async (t) => {
    const { id, url, args } = await victim.prepare('/whole')
    t.match(await curl('--header', 'te: trailers', ...args, url), { code: 0, body: 'id\n1\n2\n' })
    await victim.checkSurvived(t, id, { status: 'complete' })
  })

  t.test('an error before the first byte is a reply', async (t) => {
    const { id, url, args } = await victim.prepare('/early')
    t.match(await curl('--include', ...args, url), { code: 0, body: /^HTTP\/1\.1 500 .*"message":"early"/s })
    await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'Error' })
  })

  for (const [version, codes] of Object.entries({ '--http1.1': [18, 56], '--http1.0': [56] })) {
    t.test(`an error after it is a break, ${version}`, async (t) => {
      const { id, url, args } = await victim.prepare('/late')
      const { code } = await curl(version, ...args, url)
      t.ok(codes.includes(code), `curl ${code}`)
      await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: 'Error' })
    })

    t.test(`so is a handlerTimeout, ${version}`, { skip: withoutTimeout }, async (t) => {
      const { id, url, args } = await victim.prepare('/late-timeout')
      const { code } = await curl(version, ...args, url)
      t.ok(codes.includes(code), `curl ${code}`)
      await victim.checkSurvived(t, id, { status: 'limit_reached', errorCode: 'FST_ERR_HANDLER_TIMEOUT' })
    })
  }

  for (const version of ['1.0', '1.1'] as Version[]) {
    for (const [limit, status] of Object.entries({
      maxRows: 'limit_reached',
      maxBytes: 'limit_reached',
      maxDuration: 'limit_reached',
      sourceTimeout: 'source_stalled'
    } as const)) {
      t.test(`${limit} is a break, HTTP/${version}`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/${limit}`)
        const seen = await ask(version, url, headers)
        t.ok(isBroken(version, seen), `${seen.status} ${seen.end}`)
        await victim.checkSurvived(t, id, { status })
      })
    }

    t.test(`so is the close of the server, HTTP/${version}`, async (t) => {
      const { id, url, headers } = await victim.prepare('/closing')
      const seen = await ask(version, url, headers)
      t.ok(isBroken(version, seen), `${seen.status} ${seen.end}`)
      t.ok(await victim.said(id, 'closed'), 'it closes')
      t.match(await victim.receipt(id), { status: 'server_closing' })
      await victim.stop()
    })
  }

  t.test('a handlerTimeout before the first byte is a reply', { skip: withoutTimeout }, async (t) => {
    const { id, url, args } = await victim.prepare('/timeout')
    t.match(await curl('--include', ...args, url), {
      code: 0,
      body: /^HTTP\/1\.1 503 .*FST_ERR_HANDLER_TIMEOUT/s
    })
    await victim.checkSurvived(t, id, { status: 'limit_reached', errorCode: 'FST_ERR_HANDLER_TIMEOUT' })
  })

  t.test('a head that goes before the first row says the coding', async (t) => {
    const { id, url, args } = await victim.prepare('/committed')
    const { code, body } = await curl('--compressed', '--header', 'accept-encoding: gzip', ...args, url)
    t.match({ code, body }, { code: 0, body: /^id\n1\n.*\n20000\n$/s })
    await victim.checkSurvived(t, id, { status: 'complete', contentCoding: 'gzip' })
  })
})
