import { once } from 'node:events'
import t, { type Test } from 'tap'
import { request } from 'undici'
import type { AppOptions } from '../../app.ts'
import { listen, printed, startCurl } from '../clients.ts'
import { connect, makeReportBig, serveApp, startDatabase } from '../database.ts'
import { build, curl, gate } from '../helper.ts'

const databaseUrl = await startDatabase(t, { rows: 20_000 })
await makeReportBig(databaseUrl)

interface Answer {
  statusCode: number
  body: Record<string, unknown>
}

async function ask(url: string, id: string): Promise<Answer> {
  const { statusCode, body } = await request(`${url}/exports/${id}`)
  return { statusCode, body: (await body.json()) as Record<string, unknown> }
}

/** Downloads the whole; resolves to the export's id. */
async function download(url: string): Promise<string> {
  const { body } = await curl('--dump-header', '-', '--output', '/dev/null', url)
  return idIn(body)
}

function idIn(head: string): string {
  return (/^export-id: (\S+)/im.exec(head) as RegExpExecArray)[1] as string
}

const servers: [name: string, start: (t: Test) => Promise<string>][] = [
  ['with a database', async (t) => (await serveApp(t, databaseUrl)).url],
  ['without a database', async (t) => listen(await build(t))]
]
for (const [name, start] of servers) {
  t.test(`${name}, a whole download can be asked about`, async (t) => {
    const url = await start(t)
    const id = await download(`${url}/download_csv_streaming?rows=5`)
    const { statusCode, body } = await ask(url, id)
    t.equal(statusCode, 200)
    t.match(body, { id, report: '/download_csv_streaming', status: 'complete', rows: 5, errorCode: null })
    t.strictSame(await ask(url, id.toUpperCase()), { statusCode, body })
  })

  t.test(`${name}, an id that nobody knows is a 404 that says why it may be so`, async (t) => {
    const { statusCode, body } = await ask(await start(t), '00000000-0000-4000-8000-000000000000')
    t.equal(statusCode, 404)
    t.match(body, { code: 'UNKNOWN_EXPORT', message: /none began with this id, or its record is gone/ })
  })
}

t.test('what is no UUID is a 400 that names the parameter', async (t) => {
  const { url } = await serveApp(t, databaseUrl)
  for (const id of ['7', 'x'.repeat(36), 'urn:uuid:00000000-0000-4000-8000-000000000000', '%00']) {
    const { statusCode, body } = await ask(url, id)
    t.equal(statusCode, 400, id)
    t.match(body.message, 'parameter "id"')
  }
  t.match((await ask(url, '00000000-0000-4000-8000-000000000000?format=csv')).body.message, '"format"')
})

t.test('another instance answers, also when the first one is gone', async (t) => {
  const first = await serveApp(t, databaseUrl)
  const second = await serveApp(t, databaseUrl)
  const id = await download(`${first.url}/reports/cargoes.csv?limit=100`)
  await first.app.close()
  t.match(await ask(second.url, id), { statusCode: 200, body: { id, status: 'complete', rows: 100 } })
})

const options: [name: string, options: AppOptions][] = [
  ['with a database', { databaseUrl }],
  ['without a database', {}]
]
for (const [name, option] of options)
  t.test(`${name}, a client that was cut off asks why`, async (t) => {
    const { opened, open } = gate()
    const app = await build(t, option)
    app.get('/failing', (_request, reply) =>
      reply.csv(
        (async function* () {
          yield ['first']
          await opened
          throw Object.assign(new Error('the disk is on fire'), { code: 'EIO' })
        })(),
        { header: false }
      )
    )
    const url = await listen(app)
    const client = startCurl('--include', `${url}/failing`)
    const exit = once(client, 'exit')
    const id = idIn(await printed(client.stdout, /first/))
    const { statusCode, body } = await ask(url, id)
    t.equal(statusCode, 404, 'not before it has ended')
    t.match(body, { code: 'EXPORT_WITHOUT_END', message: /^export \S+ of \/failing began at \d{4}-.*no end/ })
    open()
    t.not((await exit)[0], 0)
    t.match(await ask(url, id), {
      statusCode: 200,
      body: { id, status: 'source_failed', rows: 1, errorCode: 'EIO' }
    })
  })

t.test('a server that closes leaves the receipts of what it broke', async (t) => {
  const { app, url } = await serveApp(t, databaseUrl)
  const client = startCurl('--include', `${url}/reports/cargoes.csv`)
  const id = idIn(await printed(client.stdout, /\n1,/))
  const exit = once(client, 'exit')
  await app.close()
  client.stdout.resume()
  t.not((await exit)[0], 0)
  const { url: other } = await serveApp(t, databaseUrl)
  t.match(await ask(other, id), { statusCode: 200, body: { status: 'server_closing' } })
  const database = await connect(t, databaseUrl)
  t.strictSame(
    (
      await database.query(
        "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE '%receipts' AND state = 'active'"
      )
    ).rows,
    []
  )
})
