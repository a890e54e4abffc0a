import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { connect as connectSocket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { printed } from '../clients.ts'
import { connect, serveApp, startDatabase, temporaryFolder, untilNoneBusy } from '../database.ts'
import { type CurlResult, curl } from '../helper.ts'

const databaseUrl = await startDatabase(t)
const { app, url, log } = await serveApp(t, databaseUrl)
const database = await connect(t, databaseUrl)
const folder = await temporaryFolder(t)

const header = 'number,commodity,origin,destination,weight,shipped_at,delivered_on'
const good = '1,Tea,"Porto, PT","Oslo, NO",1.500,2024-01-02 03:04:05.123456+00,'
const status = '\\nstatus %{http_code}\\n'

async function upload(content: string | Buffer, ...args: string[]): Promise<CurlResult> {
  const path = join(folder, 'cargoes.csv')
  await writeFile(path, content)
  return curl('-N', '-w', status, ...args, '-F', `file=@${path}`, `${url}/imports`)
}

async function report(query: string): Promise<string> {
  const { code, body } = await curl(`${url}/reports/cargoes.csv?${query}`)
  t.equal(code, 0)
  return body
}

async function counts(): Promise<{ imports: number; cargoes: number }> {
  const { rows } = await database.query(
    'SELECT (SELECT count(*) FROM imports)::integer AS imports, count(*)::integer AS cargoes FROM cargoes'
  )
  return rows[0]
}

function importId({ body }: CurlResult): string {
  return /^import (\d+): \d+ rows$/m.exec(body)?.[1] as string
}

t.test('what was exported imports again, and exports the same bytes', async (t) => {
  const exported = await report('')
  const result = await upload(exported)
  t.match(result.body, /^import \d+ begins\n(\d+ rows\n)*import \d+: 20000 rows\n\nstatus 200\n$/)
  t.equal(await report(`import=${importId(result)}`), exported)
  t.equal((await counts()).cargoes, 40_000, 'beside those already there')
})

t.test('hard texts, empty cells and a BOM survive', async (t) => {
  const lines = [
    '007,"",a,b,0,2024-01-01T00:00:00+02:00,2024-02-29',
    '5,"say ""x"", then","two\nlines","Ünïcødé 🚢",999999999.999,1999-12-31 23:59:59Z,',
    '5,NULL,"lone\rreturn",  spaces ,0.001,2024-01-01 00:00:00.5+00,'
  ]
  const first = importId(await upload(`\uFEFF${header}\n${lines.join('\n')}\n`))
  const exported = await report(`import=${first}`)
  t.match(exported, '7,,a,b,0.000,2023-12-31 22:00:00+00,2024-02-29\n')
  const second = importId(await upload(exported))
  t.equal(await report(`import=${second}`), exported)
  const { rows } = await database.query(
    'SELECT commodity, delivered_on FROM cargoes WHERE import_id = $1 AND number = 7',
    [second]
  )
  t.equal(rows[0].commodity, '', 'an empty text is no NULL')
  t.match(
    await upload([header, good, '', good, ''].join('\r\n')),
    { body: /: 2 rows\n/ },
    'CRLF and empty lines'
  )
  t.match(await upload(header), { body: /: 0 rows\n/ })
})

const badHeaders: [name: string, content: string | Buffer, message: RegExp][] = [
  ['an empty file', '', /line 1: the file is empty/],
  ['another header', 'a,b\n1,2\n', /line 1: the header must be number,.*got \\"a,b\\"/],
  ['a missing column', `${header.replace(',weight', '')}\n`, /line 1: the header must be/],
  ['bytes that are no text', Buffer.from([0x50, 0x4b, 0xff, 0xfe, 0x0a]), /line 1: the bytes are not UTF-8/]
]
for (const [name, content, message] of badHeaders) {
  t.test(`${name} is a 400`, async (t) => {
    const before = await counts()
    const { code, body } = await upload(content)
    t.equal(code, 0)
    t.match(body, message)
    t.match(body, /status 400/)
    t.strictSame(await counts(), before)
  })
}

const badLines: [name: string, line: string | Buffer, message: string][] = [
  ['too few cells', '1,Tea', 'line 3: 7 cells expected, got 2'],
  ['too many cells', `${good},`, 'line 3: 7 cells expected, got 8'],
  ['a number that is none', good.replace('1,', 'one,'), 'line 3, column number: "one" is not a whole number'],
  [
    'a too large number',
    good.replace('1,', `${'9'.repeat(19)},`),
    'line 3, column number: "9999999999999999999" is too large'
  ],
  ['a weight that is none', good.replace('1.500', '1,500'), 'line 3: 7 cells expected, got 8'],
  ['an empty weight', good.replace('1.500', ''), 'line 3, column weight: "" is not a decimal number'],
  ['a too exact weight', good.replace('1.500', '1.5001'), 'line 3, column weight: "1.5001" does not fit'],
  [
    'a too large weight',
    good.replace('1.500', '1e9'),
    'line 3, column weight: "1e9" is not a decimal number'
  ],
  [
    'a time without zone',
    good.replace('+00', ''),
    'line 3, column shipped_at: "2024-01-02 03:04:05.123456" is not a time'
  ],
  ['no such day', `${good}2023-02-29`, 'line 3, column delivered_on: "2023-02-29" is not a date'],
  [
    'a NUL character',
    good.replace('Tea', 'T\0a'),
    'line 3, column commodity: "T\\u0000a" holds a NUL character'
  ],
  ['an open quote', good.replace('Tea', '"Tea'), 'line 3: a cell of this record goes on'],
  ['a quote that is never closed', `1,"${'x'.repeat(100_000)}`, 'line 3: this record has more than'],
  [
    'bytes that are not UTF-8',
    Buffer.from(good.replace('Tea', 'Caf\xe9'), 'latin1'),
    'line 3: the bytes are not UTF-8'
  ],
  [
    'a bad cell after line breaks',
    good.replace('Tea', '"a\nb"').replace('1.500', 'x'),
    'line 3, column weight: "x"'
  ]
]
for (const [name, line, message] of badLines) {
  t.test(`${name} on a line is told, and nothing is imported`, async (t) => {
    const before = await counts()
    const bytes = [`${header}\n${good}\n`, line, `\n${good}\n`].map((part) => Buffer.from(part as string))
    const { code, body } = await upload(Buffer.concat(bytes))
    t.equal(code, 0)
    // A file that is no CSV or no UTF-8 in its first chunk is refused before the answer begins.
    t.ok(/status 400/.test(body) ? body.includes(`"${message}`) : body.includes(`error: ${message}`), body)
    t.match(body, /\nerror: [^\n]*; nothing was imported\n\nstatus 200\n$|status 400\n$/)
    t.strictSame(await counts(), before)
  })
}

t.test('a bad line in front of megabytes: curl reads why, without a reset', async (t) => {
  const before = await counts()
  const { code, body } = await upload(`${header}\n1,bad\n${`${good}\n`.repeat(200_000)}`)
  t.equal(code, 0)
  t.match(body, /error: line 2: 7 cells expected, got 2; nothing was imported\n/)
  t.strictSame(await counts(), before)
  const { body: refused } = await upload(`wrong\n${`${good}\n`.repeat(200_000)}`)
  t.match(refused, /line 1: the header must be[\s\S]*status 400/)
})

const form = 'multipart/form-data; boundary=x'
const fileHead = '--x\r\ncontent-disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
const rows = `${good}\n`.repeat(200_000)

function head(type: string, length: number, connection: string): string {
  const lines = [
    'host: test',
    `connection: ${connection}`,
    `content-type: ${type}`,
    `content-length: ${length}`
  ]
  return `POST /imports HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`
}

/** As Python's urllib does: the connection is for this request alone, and all is written before anything is read. */
async function postAlone(type: string, body: string): Promise<string> {
  const socket = connectSocket(Number(new URL(url).port), '127.0.0.1')
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject)
    socket.write(head(type, Buffer.byteLength(body), 'close') + body, () => resolve())
  })
  return text(socket)
}

t.test('a client that closes its connection reads why, once it has sent all', async (t) => {
  t.match(await postAlone('text/csv', rows), /^HTTP\/1.1 415 [\s\S]*"NOT_A_FORM"/)
  const wrong = await postAlone(form, `${fileHead}wrong\n${rows}\r\n--x--\r\n`)
  t.match(wrong, /^HTTP\/1.1 400 [\s\S]*line 1: the header must be/)
  const late = await postAlone(form, `${fileHead}${header}\n${good}\n1,bad\n${rows}\r\n--x--\r\n`)
  t.match(late, /7 cells expected, got 2[\s\S]*\r\n0\r\n\r\n$/)
})

t.test('so it does where no connection to the database is free', async (t) => {
  const { pool } = app.pg
  for (let taken = 0; taken < pool.options.max; taken++) {
    const client = await pool.connect()
    t.teardown(() => client.release())
  }
  const answer = await postAlone(form, `${fileHead}${header}\n${rows}\r\n--x--\r\n`)
  t.match(answer, /^HTTP\/1.1 503 /)
})

t.test('a client that keeps its connection reads why in the midst of its upload, and goes on', async (t) => {
  const socket = connectSocket(Number(new URL(url).port), '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.write(head('text/csv', rows.length, 'keep-alive'))
  t.match(await printed(socket, /NOT_A_FORM/), /^HTTP\/1.1 415 /)
  socket.write(`${rows}GET /commands HTTP/1.1\r\nhost: test\r\n\r\n`)
  t.match(await printed(socket, /countdown/), /^HTTP\/1.1 200 /)
})

t.test('no file, and two files', async (t) => {
  const before = await counts()
  const path = join(folder, 'cargoes.csv')
  await writeFile(path, `${header}\n${good}\n`)
  const post = (...args: string[]) => curl('-N', '-w', status, ...args, `${url}/imports`)
  t.match(await post('-F', 'file=text'), { code: 0, body: /no file: send one[\s\S]*status 400/ })
  const two = await post('-F', `file=@${path}`, '-F', `more=@${path}`)
  t.match(two, { code: 0, body: /error: one file at a time[^\n]*; nothing was imported\n/ })
  t.strictSame(await counts(), before)
  t.match(
    await post('-F', 'note=hello', '-F', `file=@${path}`),
    { code: 0, body: /: 1 rows\n/ },
    'a field may precede'
  )
})

t.test('a body that is no form gets the line that works', async (t) => {
  const before = await counts()
  const path = join(folder, 'large.csv')
  await writeFile(path, `${header}\n${`${good}\n`.repeat(200_000)}`)
  const large = ['--data-binary', `@${path}`]
  const bodies: [name: string, ...args: string[]][] = [
    ['what curl --data-binary sends', ...large],
    ['CSV', ...large, '-H', 'content-type: text/csv'],
    ['chunked CSV', ...large, '-H', 'content-type: text/csv', '-H', 'transfer-encoding: chunked'],
    ['no type', ...large, '-H', 'content-type:'],
    ['a type that is none', ...large, '-H', 'content-type: csv'],
    ['a large JSON text', ...large, '-H', 'content-type: application/json'],
    ['a wrong JSON text', '--json', '{'],
    ['a large text', ...large, '-H', 'content-type: text/plain'],
    ['another multipart', ...large, '-H', 'content-type: multipart/mixed; boundary=x'],
    ['a form without a boundary', ...large, '-H', 'content-type: multipart/form-data'],
    ['nothing', '-X', 'POST'],
    ['nothing of a type', '-X', 'POST', '-H', 'content-type: text/csv']
  ]
  for (const [name, ...args] of bodies) {
    const { code, body } = await curl('-w', status, ...args, `${url}/imports`)
    t.equal(code, 0, name)
    t.match(body, /multipart\/form-data: curl -N -F file=@cargoes.csv[\s\S]*status 415/, name)
  }
  t.strictSame(await counts(), before)
})

t.test('a multipart body without its closing boundary is no whole file', async (t) => {
  const before = await counts()
  const post = (type: string, body: string) =>
    curl('-N', '-w', status, '-H', `content-type: ${type}`, '--data-binary', body, `${url}/imports`)
  const late = await post(form, `${fileHead}${header}\n${good}\n`)
  t.match(late.body, /\nerror: the closing boundary .* is missing: .*; nothing was imported\n\nstatus 200\n$/)
  const early: [name: string, body: string][] = [
    ['none at all', `${header}\n${good}\n`],
    ['in the head of the part', fileHead.slice(0, -2)],
    ['in the header of the file', `${fileHead}${header.slice(0, 20)}`]
  ]
  for (const [name, body] of early) {
    t.match((await post(form, body)).body, /"BROKEN_FORM".*closing boundary[\s\S]*status 400\n$/, name)
  }
  t.match((await post(`${form.slice(0, -1)}${'x'.repeat(300)}`, '')).body, /"NOT_A_FORM"/, 'too long a one')
  t.strictSame(await counts(), before)
  await untilNoneBusy(database)
})

t.test('progress is told while the upload is still going on', async (t) => {
  const request = httpRequest(`${url}/imports`, {
    method: 'POST',
    headers: { 'content-type': 'multipart/form-data; boundary=x' }
  })
  const part = 'content-disposition: form-data; name="file"; filename="slow.csv"'
  // The last bytes may be the beginning of a boundary: the server has a line when there are some below it.
  request.write(`--x\r\n${part}\r\n\r\n${header}\n${good}\n`)
  const [response] = await once(request, 'response')
  let sent = 1
  const sending = setInterval(() => {
    request.write(`${good}\n`)
    sent++
  }, 20)
  let text = ''
  for await (const chunk of response) {
    text += chunk
    if (!/^\d+ rows$/m.test(text) || request.writableEnded) continue
    t.ok(Number(/^(\d+) rows$/m.exec(text)?.[1]) > 0)
    clearInterval(sending)
    request.end('\r\n--x--\r\n')
  }
  t.match(text, new RegExp(`import \\d+: ${sent} rows\n$`))
})

t.test('curl shows the progress of a slow upload', async (t) => {
  const { code, body } = await upload(`${header}\n${`${good}\n`.repeat(20_000)}`, '--limit-rate', '500k')
  t.equal(code, 0)
  t.match(body, /^import \d+ begins\n(\d+ rows\n)+import \d+: 20000 rows\n/)
})

t.test('a connection lost half-way imports nothing and holds no connection', async (t) => {
  const before = await counts()
  for (const lines of [1, 10, 5_000]) {
    const socket = connectSocket(Number(new URL(url).port), '127.0.0.1')
    socket.on('error', () => {})
    const part = 'content-disposition: form-data; name="file"; filename="lost.csv"'
    socket.write(
      'POST /imports HTTP/1.1\r\nhost: test\r\ncontent-type: multipart/form-data; boundary=x\r\n' +
        `content-length: 100000000\r\n\r\n--x\r\n${part}\r\n\r\n${header}\n${`${good}\n`.repeat(lines)}`
    )
    await once(socket, 'data')
    socket.resetAndDestroy()
    await untilNoneBusy(database)
  }
  t.strictSame(await counts(), before)
  t.equal(app.pg.pool.idleCount, app.pg.pool.totalCount)
})

t.test('a database that ends the connection breaks the answer of a stalled upload', async (t) => {
  const before = await counts()
  const request = httpRequest(`${url}/imports`, {
    method: 'POST',
    headers: { 'content-type': 'multipart/form-data; boundary=x' }
  })
  request.on('error', () => {})
  const part = 'content-disposition: form-data; name="file"; filename="stalled.csv"'
  request.write(`--x\r\n${part}\r\n\r\n${header}\n${good}\n`)
  const [response] = await once(request, 'response')
  await once(response, 'data')
  // The break may come before the database has answered; a response that nobody listens to keeps its error to itself.
  const broken = once(response, 'error')
  const { rows } = await database.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
  )
  t.equal(rows.length, 1)
  response.resume()
  const [error] = await broken
  t.equal(error.code, 'ECONNRESET')
  t.match(await log.find(/source_failed/), { level: 50 })
  log.lines = []
  t.strictSame(await counts(), before)
})

t.test('imports at the same time keep to themselves', async (t) => {
  const path = join(folder, 'many.csv')
  const content = `${header}\n${Array.from({ length: 3_000 }, (_, n) => good.replace('1,', `${n},`)).join('\n')}\n`
  await writeFile(path, content)
  const results = await Promise.all([1, 2, 3].map(() => curl('-N', '-F', `file=@${path}`, `${url}/imports`)))
  const ids = results.map(importId)
  t.equal(new Set(ids).size, 3)
  for (const id of ids) t.equal(await report(`import=${id}`), content)
})

t.test('nothing of all this was an error of the server', async (t) => {
  t.strictSame(
    log.lines.filter(({ level }) => level >= 50),
    []
  )
})
