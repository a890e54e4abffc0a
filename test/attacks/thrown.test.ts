import t, { type Test } from 'tap'
import { get, Victim } from './attack.ts'
import { places, releases } from './subjects/thrown.ts'
import { values } from './subjects/values.ts'

// On ecf8ce8, 507 of 898 assertions fail: the process ends.

const victim = await Victim.start(t, new URL('subjects/thrown.ts', import.meta.url))

/** Few of them, for each place. */
const worst = ['a frozen Error', 'an object without prototype', 'a revoked Proxy']

/** What the receipt says where the thrown value itself is of no use, or says less. */
const errorCodes: Record<string, string | RegExp> = {
  'a frozen Error': 'Error',
  'a frozen Error with a code': 'NO_TABLE',
  'a sealed Error': 'RangeError',
  'an object without prototype': 'CSV_EXPORT_SOURCE_FAILED',
  'a revoked Proxy': 'CSV_EXPORT_SOURCE_FAILED',
  'a Symbol': 'CSV_EXPORT_SOURCE_FAILED',
  undefined: 'CSV_EXPORT_SOURCE_FAILED'
}

interface Attack {
  path: '/source' | '/cast'
  place: string
  value: string
  /** In the receipt and, if nothing has been sent, in the reply. */
  errorCode: string | RegExp
}

async function attackSource(t: Test, { path, place, value, errorCode }: Attack): Promise<void> {
  const { id, url, headers } = await victim.prepare(`${path}?${new URLSearchParams({ place, value })}`)
  const { status, body, isWhole } = await get(url, headers)
  if (status === 200) t.equal(isWhole, false, 'a visible break')
  else {
    t.match(body, /^\{.*\}$/s, 'a whole error')
    t.match(status, value === 'a frozen Error with a code' && path === '/source' ? 404 : 500)
  }
  await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: errorCode as string })
}

t.test('a source throws', async (t) => {
  for (const place of ['before the first row', 'after a row']) {
    for (const value of Object.keys(values)) {
      t.test(`${place}: ${value}`, (t) =>
        attackSource(t, { path: '/source', place, value, errorCode: errorCodes[value] ?? /./ })
      )
    }
  }
  for (const place of Object.keys(places).slice(2)) {
    for (const value of worst) {
      t.test(`${place}: ${value}`, (t) => attackSource(t, { path: '/source', place, value, errorCode: /./ }))
    }
  }
})

t.test('a source throws behind a hook that makes another stream of its body', async (t) => {
  for (const value of Object.keys(values)) {
    // Nobody can know of it before.
    if (value.endsWith('from the second time on')) continue
    for (const hook of ['Readable.from', 'toWeb']) {
      t.test(`${hook}: ${value}`, async (t) => {
        const query = new URLSearchParams({ place: 'after a row', value, hook })
        const { id, url, headers } = await victim.prepare(`/source?${query}`)
        t.match(await get(url, headers), { status: 200, isWhole: false }, 'a visible break')
        await victim.checkSurvived(t, id, { status: 'source_failed', errorCode: /./ })
      })
    }
  }
})

t.test('a cast throws', async (t) => {
  for (const place of ['before the first row', 'after a row']) {
    for (const value of Object.keys(values)) {
      t.test(`${place}: ${value}`, (t) =>
        attackSource(t, { path: '/cast', place, value, errorCode: 'CSV_EXPORT_INVALID_ROW' })
      )
    }
  }
})

t.test('the clean-up of a source throws', async (t) => {
  for (const place of Object.keys(releases)) {
    for (const value of worst) {
      t.test(`${place}: ${value}`, async (t) => {
        const { id, url, headers } = await victim.prepare(`/release?${new URLSearchParams({ place, value })}`)
        t.match(await get(url, headers), { status: 422, body: /CSV_EXPORT_MAX_ROWS/, isWhole: true })
        await victim.checkSurvived(t, id, { status: 'limit_reached', errorCode: 'CSV_EXPORT_MAX_ROWS' })
      })
    }
  }
})

t.test("a user's own function throws", async (t) => {
  const attackUser = async (thrown: string) => {
    const { id, url, headers } = await victim.prepare('/user')
    return { id, reply: await get(url, { ...headers, 'x-throw': thrown }) }
  }
  for (const value of worst) {
    for (const name of ['concurrencyKey', 'genExportId']) {
      t.test(`${name}: ${value}`, async (t) => {
        const { id, reply } = await attackUser(`${name}=${value}`)
        t.match(reply, { status: 500, isWhole: true })
        await victim.checkSurvived(t, id, undefined)
      })
    }
  }
  for (const value of Object.keys(values)) {
    for (const name of ['onReceipt', 'receipts.put']) {
      t.test(`${name}: ${value}`, async (t) => {
        const { id, reply } = await attackUser(`${name}=${value}`)
        t.match(reply, { status: 200, body: 'id\nrow\n', isWhole: true })
        await victim.checkSurvived(t, id, { status: 'complete', errorCode: null })
      })
    }
  }
  t.test('onReceipt: a thenable that throws', async (t) => {
    const { id, reply } = await attackUser('onReceipt, then')
    t.match(reply, { status: 200, body: 'id\nrow\n', isWhole: true })
    await victim.checkSurvived(t, id, { status: 'complete', errorCode: null })
  })
})
