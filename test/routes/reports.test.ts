import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { parse } from 'csv-parse/sync'
import t from 'tap'
import { request } from 'undici'
import { cargoColumns } from '../../database/cargoes.ts'
import { connect, copyToCsv, serveApp, startDatabase, untilNoneBusy } from '../database.ts'
import { curl, type LogLine } from '../helper.ts'

const databaseUrl = await startDatabase(t)
const { app, url, log } = await serveApp(t, databaseUrl)
const database = await connect(t, databaseUrl)
const columns = cargoColumns.join(', ')

async function download(query: string): Promise<string[][]> {
  const { code, body } = await curl(`${url}/reports/cargoes.csv?${query}`)
  t.equal(code, 0)
  return parse(body)
}

async function copy(rest: string): Promise<string[][]> {
  return parse(await copyToCsv(database, `SELECT ${columns} FROM cargoes ${rest}`))
}

t.test('the whole report equals what COPY gives for the same query, cell by cell', async (t) => {
  const downloaded = await download('')
  t.equal(downloaded.length, 20_001)
  t.strictSame(downloaded, await copy('ORDER BY id'))
  const text = downloaded.flat().join('\n')
  for (const hard of [',', '"', 'è', '\n\n'])
    t.ok(text.includes(hard), `the data holds ${JSON.stringify(hard)}`)
})

t.test('a report whose texts are hard equals COPY too', async (t) => {
  await database.query(`
    INSERT INTO cargoes (number, commodity, origin, destination, weight, shipped_at, delivered_on) VALUES
    (9223372036854775807, '', E'two\\nlines', E'lone\\rreturn', 0.1, '1999-12-31 23:59:59.999999+00', NULL),
    (-1, ' =1+1 ', '"', 'NULL', 999999999.999, '2150-01-01 00:00:00+14', '2150-02-28')`)
  t.teardown(() => database.query('DELETE FROM cargoes WHERE number IN (9223372036854775807, -1)'))
  t.strictSame(await download(''), await copy('ORDER BY id'))
})

const filters: [query: string, where: string][] = [
  ['commodity=Tea', "commodity = 'Tea'"],
  ['commodity=Steel%20pipes,%206%22', `commodity = 'Steel pipes, 6"'`],
  ['origin=San', "origin LIKE 'San%'"],
  ['destination=S', "destination LIKE 'S%'"],
  ['minWeight=20000.5', 'weight >= 20000.5'],
  ['maxWeight=100', 'weight <= 100'],
  ['shippedAfter=2024-06-01', "shipped_at >= '2024-06-01Z'"],
  ['shippedBefore=2020-06-01T12:00:00%2B02:00', "shipped_at < '2020-06-01 10:00Z'"],
  [
    'commodity=Wheat&minWeight=1000&maxWeight=9000&shippedAfter=2021-01-01',
    "commodity = 'Wheat' AND weight BETWEEN 1000 AND 9000 AND shipped_at >= '2021-01-01Z'"
  ]
]
for (const [query, where] of filters) {
  t.test(`filter ${query}`, async (t) => {
    const rows = await download(query)
    t.ok(rows.length > 10 && rows.length < 20_000)
    t.strictSame(rows, await copy(`WHERE ${where} ORDER BY id`))
  })
}

t.test('limit gives the first rows; 0 gives the header alone', async (t) => {
  t.strictSame(await download('limit=7'), await copy('ORDER BY id LIMIT 7'))
  t.strictSame(await download('limit=0'), [[...cargoColumns]])
})

t.test('a text in the query stays a text', async (t) => {
  t.equal((await download("commodity=Tea'%20OR%20'1'='1")).length, 1)
  t.equal((await download('origin=%25')).length, 1)
})

const wrong = {
  limit: ['-1', '1.5', 'ten', '', '1&limit=2'],
  import: ['0', 'abc', '2147483648'],
  minWeight: ['heavy', '-1', '1e10'],
  maxWeight: ['NaN'],
  shippedAfter: [
    'yesterday',
    '2024-02-30',
    '0000-01-01',
    '2024-01-01T00:00:00',
    '2024-01-01T00:00:00%2B20:00'
  ],
  shippedBefore: ['2024-13-01'],
  commodity: ['', '%00'],
  origin: ['x'.repeat(201)],
  destination: ['']
}
for (const [name, values] of Object.entries(wrong)) {
  t.test(`a wrong ${name} is a 400 that names it`, async (t) => {
    for (const value of values) {
      const { statusCode, headers, body } = await request(`${url}/reports/cargoes.csv?${name}=${value}`)
      t.equal(statusCode, 400, value)
      t.equal(headers['content-disposition'], undefined)
      t.match(((await body.json()) as { message: string }).message, name)
    }
  })
}

t.test('a wrong or unknown parameter is the same 400 of a report and of its run', async (t) => {
  const headers = { 'content-type': 'application/json' }
  for (const [name, value, explanation] of [
    ['limit', '-1', 'parameters: parameter "limit" must be >= 0, got -1'],
    ['comodity', '1', 'parameters: unknown parameter "comodity" (known: commodity, origin, ']
  ] as const) {
    const replies = await Promise.all([
      request(`${url}/reports/cargoes.csv?${name}=${value}`),
      request(`${url}/reports/cargoes.csv?${name}=${value}`, { headers: { prefer: 'respond-async' } }),
      request(`${url}/reports/cargoes/runs`, { method: 'POST', headers, body: `{"${name}":${value}}` })
    ])
    for (const { statusCode, body } of replies) {
      t.equal(statusCode, 400)
      t.ok(((await body.json()) as { message: string }).message.startsWith(explanation))
    }
  }
})

t.test('what is no UTF-8 in percent-encoding is a 400 that names the parameter', async (t) => {
  const ask = async (path: string) => {
    const { body } = await curl('-w', '\\n%{http_code}', '--request-target', path, url)
    const [reply, status] = body.split(/\n(?=\d+$)/) as [string, string]
    return { status, message: status === '400' ? JSON.parse(reply).message : reply }
  }
  for (const value of ['%E8', '%', '%zz', 'x%2', 'x%', '%C3', '%ED%A0%80', '%C0%80', 'a%20%E8+b', '%E8=1']) {
    t.match(
      await ask(`/reports/cargoes.csv?limit=1&origin=${value}`),
      {
        status: '400',
        message: `querystring: parameter "origin" must be UTF-8 in percent-encoding, got "${value}"`
      },
      value
    )
  }
  const paths = [
    '/reports/cargoes.csv#origin=%E8',
    '/reports/cargoes.csv?commodity=Tea&commodity=%E8',
    '/reports/all-cargoes.csv?%E8',
    '/reports/all-cargoes.csv?%E8=1',
    '/streamed?sleep=%E8',
    '/commands?x=%E8',
    '/commands/date/output?x=%E8',
    '/download_csv?rows=%E8',
    '/download_csv_streaming?rows=%E8',
    '/exports/00000000-0000-4000-8000-000000000000?x=%E8'
  ]
  for (const path of paths) {
    t.match(await ask(path), { status: '400', message: /parameter ".+" must be UTF-8 in/ }, path)
  }
  t.match(await ask('/commands/%E8/output'), { status: '400', message: /%E8/ })
  t.match(await ask('/reports/cargoes.csv?origin=S%C3%A3o+P&limit=1'), { status: '200', message: /,"?São P/ })
  t.match(await ask('/reports/cargoes.csv?origin=S%c3%a3o%20P&limit=1'), {
    status: '200',
    message: /,"?São P/
  })
})

// One of them waits for seconds, as the app does for a connection, so they run at the same time.
t.test('connections that are cut off or all taken', async (t) => {
  t.jobs = 2
  const together = { buffered: true }

  t.test(
    '60 downloads aborted at random moments leave no busy connection and no open cursor',
    together,
    async (t) => {
      const abortOne = async (_: unknown, index: number): Promise<void> => {
        const report = index % 2 === 0 ? 'cargoes' : 'all-cargoes'
        const child = spawn('curl', ['-sN', `${url}/reports/${report}.csv`], {
          stdio: ['ignore', 'pipe', 'ignore']
        })
        // A moment counted in bytes: some leave before the first, some in the middle, some near the end.
        let left = Math.random() < 0.2 ? 0 : Math.random() * 2_000_000
        child.stdout.on('data', (chunk) => {
          left -= chunk.length
          if (left <= 0) child.kill('SIGKILL')
        })
        if (left === 0) setTimeout(() => child.kill('SIGKILL'), Math.random() * 30)
        await once(child, 'close')
      }
      for (let round = 0; round < 3; round++) await Promise.all(Array.from({ length: 20 }, abortOne))
      const { pool } = app.pg
      // A connection is idle for the server a moment before its answer has come back to the pool.
      while (pool.idleCount < pool.totalCount) await new Promise((resolve) => setImmediate(resolve))
      t.equal(pool.waitingCount, 0)
      // The connections that cancel others are gone, too.
      await untilNoneBusy(database)
      const clients = await Promise.all(Array.from({ length: 10 }, () => pool.connect()))
      for (const client of clients) {
        t.strictSame((await client.query("SELECT name FROM pg_cursors WHERE name <> ''")).rows, [])
        client.release()
      }
      t.equal((await download('')).length, 20_001)
    }
  )

  t.test('where all connections stay busy, a report is a 503', together, async (t) => {
    const { app, url } = await serveApp(t, databaseUrl)
    const { pool } = app.pg
    const clients = await Promise.all(Array.from({ length: 10 }, () => pool.connect()))
    t.teardown(() => {
      for (const client of clients) client.release()
    })
    const replies = ['cargoes', 'all-cargoes'].map((report) => request(`${url}/reports/${report}.csv`))
    for (const { statusCode, body } of await Promise.all(replies)) {
      t.equal(statusCode, 503)
      t.match(await body.json(), { code: 'CSV_EXPORT_DATABASE_UNAVAILABLE' })
    }
  })
})

t.test('the report by COPY is byte for byte what COPY gives', async (t) => {
  const { code, body } = await curl('-i', `${url}/reports/all-cargoes.csv`)
  t.equal(code, 0)
  t.match(body, /content-type: text\/csv; charset=utf-8; header=present\r\n/i)
  t.match(body, /filename=all-cargoes\.csv/)
  const text = await copyToCsv(database, `SELECT ${columns} FROM cargoes ORDER BY id`)
  t.equal(body.slice(body.indexOf('\r\n\r\n') + 4), text)
  const { export: receipt } = log.lines.findLast((line) => line.export) as LogLine
  t.match(receipt, { status: 'complete', rows: 20_000, bytes: Buffer.byteLength(text) })
  t.match(await curl(`${url}/reports/all-cargoes.csv?commodity=Tea`), { body: /commodity/ })
})

for (const [report, query] of Object.entries({ cargoes: 'SELECT number%', 'all-cargoes': 'COPY%' })) {
  t.test(`a database that ends the connection breaks the download visibly: ${report}`, async (t) => {
    // No more than a socket's buffers are sent ahead of this client, so the report is still under way.
    const big = 'SELECT a.* FROM cargoes a, generate_series(1, 50) ORDER BY a.id'
    await database.query(`CREATE SCHEMA big; CREATE VIEW big.cargoes AS ${big}`)
    await database.query('ALTER ROLE postgres SET search_path = big, public')
    t.teardown(() => database.query('ALTER ROLE postgres RESET search_path; DROP SCHEMA big CASCADE'))
    const { url: bigUrl } = await serveApp(t, databaseUrl)
    const child = spawn('curl', ['-sSN', `${bigUrl}/reports/${report}.csv`], {
      stdio: ['ignore', 'pipe', 'pipe']
    })
    await once(child.stdout, 'data')
    child.stdout.pause()
    const { rows } = await database.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1 AND state = 'active'",
      [query]
    )
    t.equal(rows.length, 1)
    child.stdout.resume()
    const [code] = await once(child, 'close')
    t.not(code, 0)
    await untilNoneBusy(database)
    t.equal((await download('')).length, 20_001)
  })
}

t.test('HEAD asks the database for nothing', async (t) => {
  const { body } = await curl('-I', `${url}/reports/cargoes.csv`)
  t.match(body, /200 OK[\s\S]*filename=cargoes.csv/i)
  t.notOk(log.lines.some(({ level }) => level >= 50))
})
