import { channel } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { connect } from 'node:net'
import client from 'prom-client'
import t from 'tap'
import type { Receipt } from '../../../plugins/csv-export/index.ts'
import { collectMetrics } from '../../../plugins/metrics/index.ts'
import { curl, gate, serve } from '../../helper.ts'

type Labels = Record<string, string>

/** The samples of a scrape, by name. */
async function scrape(url: string): Promise<Map<string, { labels: Labels; value: number }[]>> {
  const { body } = await curl(`${url}/metrics`)
  const samples = new Map<string, { labels: Labels; value: number }[]>()
  for (const [, name = '', list = '', value] of body.matchAll(/^(\w+)\{([^}]*)\} (\S+)$/gm)) {
    const labels = Object.fromEntries(
      [...list.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text])
    )
    samples.set(name, [...(samples.get(name) ?? []), { labels, value: Number(value) }])
  }
  return samples
}

function sum(samples: { labels: Labels; value: number }[] | undefined, labels: Labels = {}): number {
  const wanted = (samples ?? []).filter((sample) =>
    Object.entries(labels).every(([name, text]) => sample.labels[name] === text)
  )
  return wanted.reduce((total, { value }) => total + value, 0)
}

t.test('metrics scraped under load say what the receipts say', async (t) => {
  const registry = new client.Registry()
  const stop = collectMetrics(client, { register: registry })
  t.teardown(stop)
  const receipts: Receipt[] = []
  const held = gate()
  const { url } = await serve(
    t,
    (app) => {
      app.get('/metrics', () => registry.metrics())
      app.get('/whole', (_request, reply) =>
        reply.csv(Array.from({ length: 5_000 }, (_, id) => ({ id, text: 'x'.repeat(50) })))
      )
      app.get('/failing', (_request, reply) =>
        reply.csv(
          (function* () {
            for (let id = 0; id < 2_000; id++) yield { id, text: 'x'.repeat(50) }
            throw new Error('lost')
          })()
        )
      )
      app.get('/limited', (_request, reply) =>
        reply.csv([{ id: 1 }, { id: 2 }], { maxRows: 1, report: 'two' })
      )
      app.get('/waiting', (_request, reply) =>
        reply.csv(async function* () {
          yield { id: 1 }
          await held.opened
        })
      )
    },
    { defaults: { onReceipt: (receipt) => void receipts.push(receipt) } }
  )
  const { hostname, port } = new URL(url)
  const waiting = connect(Number(port), hostname)
  waiting.write('GET /waiting HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await once(waiting, 'data')
  const load = Array.from({ length: 20 }, () =>
    ['/whole', '/failing', '/limited'].map((path) => curl(url + path))
  )
  const meanwhile = await scrape(url)
  t.equal(sum(meanwhile.get('csv_exports_running'), { report: '/waiting' }), 1)
  t.equal(sum(meanwhile.get('csv_export_rows_total'), { report: '/waiting' }), 1, 'counted while it runs')
  await Promise.all(load.flat())
  waiting.destroy()
  // The receipt of a client that leaves comes when its connection says so.
  while (receipts.length < 61) await new Promise((resolve) => setImmediate(resolve))
  held.open()
  const samples = await scrape(url)
  t.equal(sum(samples.get('csv_exports_running')), 0)
  for (const [report, status, count] of [
    ['/whole', 'complete', 20],
    ['/failing', 'source_failed', 20],
    ['two', 'limit_reached', 20],
    ['/waiting', 'client_gone', 1]
  ] as const) {
    t.equal(sum(samples.get('csv_exports_total'), { report, status }), count, report)
    t.equal(sum(samples.get('csv_export_duration_seconds_count'), { report, status }), count)
    const own = receipts.filter((receipt) => receipt.report === report)
    t.equal(own.length, count)
    for (const name of ['rows', 'bytes'] as const) {
      const expected = own.reduce((total, receipt) => total + receipt[name], 0)
      t.equal(sum(samples.get(`csv_export_${name}_total`), { report }), expected, `${name} of ${report}`)
    }
    const firstBytes = own.filter(({ firstByteAfter }) => firstByteAfter !== null).length
    t.equal(sum(samples.get('csv_export_first_byte_seconds_count'), { report }), firstBytes)
  }
  t.equal(sum(samples.get('csv_exports_total')), 61)
})

t.test('counting begins and stops whenever it is asked for, in the registry that is given', async (t) => {
  const registry = new client.Registry()
  const started = gate()
  const held = gate()
  const { url } = await serve(t, (app) => {
    app.get('/metrics', () => registry.metrics())
    app.get('/', (_request, reply) =>
      reply.csv(async function* () {
        yield { id: 1 }
        started.open()
        await held.opened
        yield { id: 2 }
      })
    )
  })
  const early = curl(url)
  await started.opened
  const stop = collectMetrics(client, { register: registry })
  t.throws(() => collectMetrics(client, { register: registry }), /already been registered/)
  held.open()
  t.equal((await early).body, 'id\n1\n2\n')
  const samples = await scrape(url)
  t.equal(sum(samples.get('csv_export_rows_total')), 2, 'one that had begun before counts when it ends')
  t.equal(sum(samples.get('csv_exports_running')), 0)
  channel('fastify-csv-export:run-taken-over').publish({ report: 'r' })
  channel('fastify-csv-export:run-finished').publish({ report: 'r', state: 'succeeded' })
  stop()
  await curl(url)
  channel('fastify-csv-export:run-finished').publish({ report: 'r', state: 'succeeded' })
  const after = await scrape(url)
  t.equal(sum(after.get('csv_exports_total')), 1)
  t.equal(sum(after.get('csv_runs_total'), { report: 'r', state: 'succeeded' }), 1)
  t.equal(sum(after.get('csv_runs_taken_over_total')), 1)
})

t.test("prom-client's own registry is the default", async (t) => {
  const stop = collectMetrics(client)
  t.teardown(stop)
  t.match(await client.register.metrics(), /# TYPE csv_exports_total counter/)
  client.register.clear()
})
