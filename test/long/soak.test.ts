import { type ChildProcess, fork } from 'node:child_process'
import { createHash, randomInt } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { Agent } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { ExportStatus, Receipt } from '../../plugins/csv-export/index.ts'
import { until } from '../clients.ts'
import { connect, makeReportBig, startDatabase, untilNoneBusy } from '../database.ts'
import type { Held } from './held.ts'
import { scaled, scaledTimeout } from './scale.ts'
import { Download } from './soak-clients.ts'
import { codings, endings, type Plan, Planner } from './soak-plans.ts'
import type { Command, Message } from './soak-server.ts'

// Repeat a failure with SOAK_SEED: what each download does is the same again, though not how they meet.
const seed = Number(process.env.SOAK_SEED ?? randomInt(2 ** 31))
// What is held is compared with the first round.
const rounds = Math.max(2, scaled(10))
const downloadsPerRound = 200
/** Of a round's downloads, those that begin before the server closes and are not waited for. */
const underWayAtClose = 40
const atATime = 40
/** Most MiB that the server may hold at the end more than after the first round. */
const heapBound = 4

const planner = new Planner(seed)

/** The server in its own process, and what it has said: which exports it has begun, and every receipt. */
class Server extends EventEmitter {
  readonly begun = new Set<string>()
  readonly receipts = new Map<string, Receipt[]>()
  readonly process: ChildProcess

  constructor(databaseUrl: string) {
    super()
    this.process = fork(new URL('./soak-server.ts', import.meta.url), [databaseUrl])
    this.process.on('message', (message: Message) => {
      if ('begun' in message) this.begun.add(message.begun)
      else if ('receipt' in message) this.#keep(message.receipt)
      else this.emit('answer', message.answer)
    })
  }

  async ask<Answer>(command: Command): Promise<Answer> {
    this.process.send(command)
    return (await once(this, 'answer'))[0]
  }

  #keep(receipt: Receipt): void {
    this.receipts.set(receipt.id, [...(this.receipts.get(receipt.id) ?? []), receipt])
    this.emit(`receipt ${receipt.id}`)
  }
}

t.setTimeout(scaledTimeout(240_000))
const databaseUrl = await startDatabase(t)
const database = await connect(t, databaseUrl)
// `complete` means that the last byte has been handed to the operating system, which can keep tens of megabytes for a
// client that does not read. The whole report is larger than that and what such a client reads together, so that one
// which leaves or stalls can have no `complete`; one which reads to the end takes a small `limit`.
await makeReportBig(databaseUrl)
const server = new Server(databaseUrl)
t.teardown(() => server.process.kill())
const wholeReport = await readWhole('/reports/cargoes.csv')
const wholeCopy = await readWhole('/reports/all-cargoes.csv')

async function readWhole(path: string): Promise<Buffer> {
  const response = await fetch((await server.ask('open')) + path)
  const report = Buffer.from(await response.arrayBuffer())
  await server.ask('close')
  return report
}

const wholeOf = ({ copy }: Plan): Buffer => (copy ? wholeCopy : wholeReport)

const striker = new pg.Pool({ connectionString: databaseUrl })
t.teardown(() => striker.end())
let strikes = 0

/** Has the database end some download that runs. A cancelled query is one only while the server makes rows. */
async function strike(terminate: boolean): Promise<void> {
  const { rowCount } = await striker.query(
    `SELECT ${terminate ? 'pg_terminate_backend' : 'pg_cancel_backend'}(pid) FROM (
       SELECT pid FROM pg_stat_activity
       WHERE application_name = 'fastify-csv-export' AND state = 'active' AND query LIKE '%SELECT number%'
       ORDER BY random() LIMIT 1
     ) AS victim`
  )
  strikes += rowCount as number
}

interface Round {
  origin: string
  agent: Agent
  /** Told each part that a client has got. */
  onPart?: (part: Buffer) => void
}

async function carryOut(plan: Plan, { origin, agent, onPart }: Round): Promise<Download> {
  const { id, way, trailers, coding, copy, keepAlive, limit, bytes, turns, terminate } = plan
  const query = { read: `?limit=${limit}`, strike: '?limit=10000' }[way as string] ?? ''
  let stricken: Promise<void> | undefined
  const download = new Download({
    id,
    url: `${origin}/reports/${copy ? 'all-cargoes.csv' : `cargoes.csv${query}`}`,
    trailers,
    coding,
    agent: keepAlive ? agent : undefined,
    expected: wholeOf(plan),
    onPart: (download, part) => {
      onPart?.(part)
      if (download.status !== 200 || download.bytes < bytes) return
      if (way === 'leave') download.leave()
      if (way === 'stall' && !server.receipts.has(id)) download.stopReading()
      if (way === 'strike') stricken ??= strike(terminate)
    }
  })
  // A client that does not read does not hear of the end either.
  if (way === 'stall') server.once(`receipt ${id}`, () => download.readOn())
  if (way === 'leaveEarly') {
    for (let passed = 0; passed < turns; passed++) await turn()
    download.leave()
  }
  await download.over
  await stricken
  return download
}

function* faults(plan: Plan, download: Download): Generator<string> {
  const { bytes, decodedBytes, records, whole, status, headers } = download
  // A connection that is reset before the request has been read never becomes an export.
  if (!server.begun.has(plan.id) && plan.way === 'leaveEarly' && status === undefined) return
  const [receipt, ...more] = server.receipts.get(plan.id) ?? []
  if (receipt === undefined) return yield 'no receipt'
  if (more.length > 0) yield `${more.length + 1} receipts`
  if (!download.right) yield 'a wrong byte'

  const possible = [endings[plan.way], 'source_failed', ...(plan.underWayAtClose ? ['server_closing'] : [])]
  if (!possible.includes(receipt.status)) yield 'an ending that its way does not lead to'
  if (status === 200 && download.headers['export-id'] !== plan.id) yield 'a wrong Export-Id'
  if ((receipt.status === 'complete') !== (whole && status === 200)) yield 'client and receipt disagree'
  const coded = receipt.contentCoding !== null
  if (status === 200 && headers['content-encoding'] !== (receipt.contentCoding ?? undefined)) {
    yield `Content-Encoding: ${headers['content-encoding']}`
  }
  const written = createHash('sha256').update(wholeOf(plan).subarray(0, receipt.bytes)).digest('hex')
  if (receipt.sha256 !== written) yield 'a digest of other bytes'
  if (receipt.status !== 'complete') {
    if (status === 200 && receipt.sentBytes < bytes) yield `the client has ${bytes} bytes`
    return
  }
  if (receipt.rows !== records - 1) yield `the client has ${records - 1} rows`
  if (receipt.sentBytes !== bytes) yield `the client has ${bytes} bytes`
  if (receipt.bytes !== decodedBytes) yield `the client has ${decodedBytes} bytes, decoded`
  if (!coded && receipt.sha256 !== download.sha256.toString('hex')) yield 'the client has another digest'
  const { 'export-rows': rowsTrailer, 'repr-digest': digestTrailer } = download.trailers
  if (rowsTrailer !== (plan.trailers ? String(records - 1) : undefined)) yield `Export-Rows: ${rowsTrailer}`
  const digest = `sha-256=:${download.sha256.toString('base64')}:`
  if (digestTrailer !== (plan.trailers ? digest : undefined)) yield `Repr-Digest: ${digestTrailer}`
}

const counts: Partial<Record<ExportStatus, number>> = {}
const codedWhole: Partial<Record<string, number>> = {}
let heldAtFirst: Held

for (let round = 1; round <= rounds; round++) {
  t.test(`round ${round} (SOAK_SEED=${seed})`, async (t) => {
    await soak(t, round)
    // The first round has compiled and cached what the others use too.
    if (round === 1) heldAtFirst = await server.ask('held')
  })
}

t.test('nothing is left behind', async (t) => {
  const held: Held = await server.ask('held')
  const mebibytes = (held.heap + held.external - heldAtFirst.heap - heldAtFirst.external) / 2 ** 20
  t.comment(counts, codedWhole, `strikes: ${strikes}`, `memory: ${mebibytes.toFixed(2)} MiB more`)
  t.ok(mebibytes < heapBound, `${mebibytes} MiB`)
  t.strictSame(held.listeners, heldAtFirst.listeners)
  t.strictSame(held.resources, heldAtFirst.resources)
  t.strictSame(held.warnings, [])
  for (const coding of codings) t.ok(codedWhole[coding], `some were coded with ${coding}`)
  t.ok((counts.source_failed as number) <= strikes, 'no source failed by itself')
  for (const status of ['complete', 'client_gone', 'client_stalled', 'source_failed', 'server_closing']) {
    t.ok(counts[status as ExportStatus], `some ended ${status}`)
  }
  const ended = once(server.process, 'exit')
  server.process.disconnect()
  t.strictSame(await ended, [0, null], 'nothing keeps the process alive')
})

async function soak(t: Test, number: number): Promise<void> {
  server.begun.clear()
  server.receipts.clear()
  const origin: string = await server.ask('open')
  const { listeners } = await server.ask<{ listeners: object }>('idle')
  const agent = new Agent({ keepAlive: true })
  const plans = Array.from({ length: downloadsPerRound }, (_, index) =>
    planner.plan(`${number}-${index}`, index >= downloadsPerRound - underWayAtClose)
  )
  const downloads = new Map<Plan, Download>()

  const ordinary = plans.filter(({ underWayAtClose }) => !underWayAtClose).values()
  const worker = async (): Promise<void> => {
    for (const plan of ordinary) downloads.set(plan, await carryOut(plan, { origin, agent }))
  }
  await Promise.all(Array.from({ length: atATime }, worker))
  await until(() => server.receipts.size === server.begun.size)
  t.strictSame(await server.ask('idle'), { waiting: 0, listeners }, 'nobody waits, nobody listens any more')
  // Portals end with their transaction, and a session that is idle has none.
  await untilNoneBusy(database)

  let left = planner.upTo(4_000_000)
  const onPart = (part: Buffer): void => {
    left -= part.length
  }
  const last = plans.filter(({ underWayAtClose }) => underWayAtClose)
  const running = last.map(async (plan) =>
    downloads.set(plan, await carryOut(plan, { origin, agent, onPart }))
  )
  const begun = ({ id, way }: Plan): boolean => server.begun.has(id) || way === 'leaveEarly'
  await until(() => left <= 0 && last.every(begun))
  t.strictSame(await server.ask('close'), { connections: 0 }, 'the pool is empty')
  await Promise.all(running)
  agent.destroy()
  await untilNoneConnected()

  const found = [...downloads].flatMap(([plan, download]) =>
    [...faults(plan, download)].map((fault) => {
      const { status, bytes } = download
      return { fault, plan, status, bytes, receipts: server.receipts.get(plan.id) }
    })
  )
  t.strictSame(found, [], 'every receipt says what its client saw')
  t.equal(downloads.size, downloadsPerRound)
  for (const receipts of server.receipts.values()) {
    for (const { status, contentCoding } of receipts) {
      counts[status] = (counts[status] ?? 0) + 1
      if (status === 'complete' && contentCoding)
        codedWhole[contentCoding] = (codedWhole[contentCoding] ?? 0) + 1
    }
  }
}

async function untilNoneConnected(): Promise<void> {
  const text = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'fastify-csv-export'"
  while (((await database.query(text)).rowCount as number) > 0);
}
