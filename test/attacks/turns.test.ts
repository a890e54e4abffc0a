import { get as httpGet } from 'node:http'
import t from 'tap'
import { get, Victim } from './attack.ts'
import { endless } from './subjects/turns.ts'
import { soon } from './watch.ts'

// On ecf8ce8, 52 of 216 assertions fail: 100,000 empty batches are no whole file, and 96 bytes are kept of each.

const victim = await Victim.start(t, new URL('subjects/turns.ts', import.meta.url))
const query = (values: Record<string, string | number>) =>
  `?${new URLSearchParams(Object.entries(values).map(([name, value]) => [name, String(value)]))}`

t.test('batches without rows are passed over', async (t) => {
  for (const kind of ['synchronous', 'asynchronous']) {
    for (const count of [1, 4_000, 100_000]) {
      for (const path of ['/counted', '/counted-text']) {
        t.test(`${path}, ${count}, ${kind}`, async (t) => {
          const { id, url, headers } = await victim.prepare(`${path}${query({ kind, count })}`)
          const reply = await get(url, headers)
          t.match(reply, { status: 200, body: 'id\n1\n', isWhole: true }, 'whole')
          await victim.checkSurvived(t, id, { status: 'complete' })
        })
      }
    }
    t.test(`they take no memory, ${kind}`, async (t) => {
      const count = 100_000
      const { id, url, headers } = await victim.prepare(`/heap${query({ kind, count })}`)
      const { body } = await get(url, headers)
      const bytes = Number(/^id\n(-?\d+)\n$/.exec(body)?.[1]) / count
      t.ok(bytes < 10, `${bytes} bytes each`)
      await victim.checkSurvived(t, id, { status: 'complete' })
    })
  }
})

/** Whether another request is served. By the second, the export has begun. */
async function pinged(url: string) {
  let reply: unknown
  for (let count = 0; count < 2 && reply !== 'nothing'; count++) {
    reply = await soon(
      get(new URL('/ping', url).href, {}).catch(() => 'nothing'),
      500
    )
  }
  return reply
}

t.test('the event loop gets its turn, whatever a source gives', async (t) => {
  for (const name of Object.keys(endless)) {
    t.test(name, async (t) => {
      const { id, url, headers } = await victim.prepare(`/endless${query({ name, maxDuration: 50 })}`)
      const reply = get(url, headers).catch(() => 'nothing')
      const ping = await pinged(url)
      t.match(ping, { body: 'pong' }, 'another request is served')
      t.not(await soon(reply, 500), 'nothing', 'a timer fires')
      if (ping === 'nothing') await victim.stop()
      else {
        const expected = { status: 'limit_reached', errorCode: 'CSV_EXPORT_MAX_DURATION' } as const
        await victim.checkSurvived(t, id, expected)
      }
    })
  }

  for (const name of ['small rows, synchronous', 'small rows, thenables', 'empty batches, asynchronous']) {
    t.test(`${name}: its client may leave`, async (t) => {
      const { id, url, headers } = await victim.prepare(`/endless${query({ name })}`)
      const request = httpGet(url, { headers, agent: false }, (response) =>
        response.on('error', () => {}).resume()
      )
      request.on('error', () => {})
      const ping = await pinged(url)
      t.match(ping, { body: 'pong' }, 'another request is served')
      request.destroy()
      if (ping === 'nothing') await victim.stop()
      else await victim.checkSurvived(t, id, { status: 'client_gone' })
    })
  }
})
