import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { type CurlProcess, printed, startCurl } from '../clients.ts'
import { connect, makeReportBig, serveApp, startPostgres } from '../database.ts'
import { curl } from '../helper.ts'
import { configureNginx } from '../nginx.ts'
import { skipWithout } from '../programs.ts'

// Each process of the way from the database to the client is killed in mid-download. What fails a test here by itself:
// an error that nobody handles, as the server runs in the test's own process.

const postgres = await startPostgres(t)
await makeReportBig(postgres.url)
const server = await serveApp(t, postgres.url)
const { url: other } = await serveApp(t, postgres.url)

interface Download {
  client: CurlProcess
  /** The export's id. */
  id: string
  /** curl's exit status and the signal that ended it. */
  exit: Promise<[number | null, NodeJS.Signals | null]>
}

/** A client that has read the first rows of millions, and reads no more until told to. */
async function startDownload(url: string): Promise<Download> {
  const client = startCurl('--include', `${url}/reports/cargoes.csv`)
  const exit = once(client, 'close') as Download['exit']
  const head = await printed(client.stdout, /\n1,/)
  const [, id] = /^export-id: (\S+)/im.exec(head) as RegExpExecArray
  return { client, id: id as string, exit }
}

/** Asks the other instance until it knows: it is told through the database, which may still be on its way back. */
async function receiptOf(id: string): Promise<Record<string, unknown>> {
  for (;;) {
    const { statusCode, body } = await request(`${other}/exports/${id}`)
    const answer = (await body.json()) as Record<string, unknown>
    if (statusCode === 200) return answer
  }
}

async function nextIsWhole(t: Test, url: string): Promise<void> {
  const { code, body } = await curl(`${url}/reports/cargoes.csv?limit=20000`)
  t.equal(code, 0)
  t.equal(body.match(/\n/g)?.length, 20_001)
}

t.test('a client that is killed', async (t) => {
  const { client, id, exit } = await startDownload(server.url)
  client.kill('SIGKILL')
  t.strictSame(await exit, [null, 'SIGKILL'])
  t.match(await receiptOf(id), { status: 'client_gone', errorCode: 'CSV_EXPORT_CLIENT_GONE', sha256: null })
  await nextIsWhole(t, server.url)
})

t.test('a server that is killed', async (t) => {
  const env = { ...process.env, DATABASE_URL: postgres.url, HOST: '127.0.0.1', PORT: '0' }
  const killed = spawn(process.execPath, ['server.ts'], { cwd: join(import.meta.dirname, '..', '..'), env })
  t.teardown(() => killed.kill('SIGKILL'))
  const text = await printed(killed.stdout, /http:\/\/127\.0\.0\.1:\d+/)
  const { client, id, exit } = await startDownload(/http:[\w/.:]+/.exec(text)?.[0] as string)
  const ask = async () => (await (await request(`${other}/exports/${id}`)).body.json()) as { code: string }
  // Nobody waits for the start to be written.
  while ((await ask()).code !== 'EXPORT_WITHOUT_END') await turn()
  killed.kill('SIGKILL')
  client.stdout.resume()
  t.not((await exit)[0], 0, 'the client sees a break')
  t.match(await ask(), {
    statusCode: 404,
    code: 'EXPORT_WITHOUT_END',
    message: /of cargoes began at/
  })
  await nextIsWhole(t, server.url)
})

const skip = skipWithout('nginx', 'nginx', '-v')

t.test('an nginx that is killed', { skip }, async (t) => {
  const nginx = await configureNginx(t, server.url)
  await nginx.start()
  const { client, id, exit } = await startDownload(nginx.url)
  await nginx.kill()
  client.stdout.resume()
  const [code] = await exit
  t.comment(`curl: ${code}`)
  t.not(code, 0, 'the client sees a break')
  t.match(await receiptOf(id), { status: 'client_gone', errorCode: 'CSV_EXPORT_CLIENT_GONE' })
  await nginx.start()
  await nextIsWhole(t, nginx.url)
})

t.test('the one backend that serves the report is killed, so PostgreSQL ends all its sessions', async (t) => {
  const { client, id, exit } = await startDownload(server.url)
  const database = await connect(t, postgres.url)
  database.on('error', () => {})
  const { rows } = await database.query(
    "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT number%' AND state = 'active'"
  )
  t.equal(rows.length, 1)
  const ready = postgres.readyAgain()
  process.kill(rows[0].pid, 'SIGKILL')
  await sourceFailed(t, { client, id, exit }, ready)
  await nextIsWhole(t, server.url)
})

t.test('all processes of PostgreSQL are killed', async (t) => {
  const { client, id, exit } = await startDownload(server.url)
  const database = await connect(t, postgres.url)
  database.on('error', () => {})
  const { rows } = await database.query('SELECT pid FROM pg_stat_activity')
  const ready = postgres.readyAgain()
  // Stopped, the postmaster cannot replace the others before its turn, nor do they see it end and say so.
  process.kill(postgres.pid, 'SIGSTOP')
  for (const { pid } of rows) process.kill(pid, 'SIGKILL')
  process.kill(postgres.pid, 'SIGKILL')
  await sourceFailed(t, { client, id, exit }, ready)
  await nextIsWhole(t, server.url)
})

/** The client sees a break, and learns why from its own server at once, from any other one when PostgreSQL is back. */
async function sourceFailed(t: Test, { client, id, exit }: Download, ready: Promise<void>): Promise<void> {
  client.stdout.resume()
  const [code] = await exit
  t.comment(`curl: ${code}`)
  t.not(code, 0, 'the client sees a break')
  const { statusCode, body } = await request(`${server.url}/exports/${id}`)
  t.equal(statusCode, 200)
  const receipt = (await body.json()) as Record<string, unknown>
  t.match(receipt, { status: 'source_failed', errorCode: 'CSV_EXPORT_DATABASE_UNAVAILABLE' })
  await ready
  t.strictSame(await receiptOf(id), receipt)
}
