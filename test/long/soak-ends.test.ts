import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { until } from '../clients.ts'
import { makeCertificate } from '../interop/servers.ts'
import { skipWithout } from '../programs.ts'
import { faultsOf, outcomeOf } from './ends/faults.ts'
import type { Left, Quiet } from './ends/left.ts'
import { openPlain } from './ends/plain.ts'
import { Planner } from './ends/planner.ts'
import { places, type Scene } from './ends/plans.ts'
import { play, type Round } from './ends/scenes.ts'
import type { Seen } from './ends/seen.ts'
import { Soaked } from './ends/soaked.ts'
import type { Held } from './held.ts'
import { scaled, scaledTimeout } from './scale.ts'

// Repeat a failure with SOAK_SEED: what each client and source does is the same again, though not how they meet.
const seed = Number(process.env.SOAK_SEED ?? randomInt(2 ** 31))
// What is held is compared with the first round.
const rounds = Math.max(2, scaled(10))
const exportsPerRound = 200
/** Of a round's exports, about those that are under way when the servers close. */
const underWayAtClose = 40
/** Connections; each has six exports at a time at most. */
const atATime = 16
/**
 * Most MiB that the process may hold at the end more than after the first round. Each round closes five servers, and one that
 * has had a connection, be it without any export, leaves a tenth of a MiB; the files of a round have 20.
 */
const heapBound = 2 + 0.7 * rounds
/** Longest time in milliseconds that the end of the servers may take. */
const closeBound = 5_000

t.setTimeout(scaledTimeout(400_000))
t.comment(`SOAK_SEED=${seed}`)
const isTlsLeftOut = skipWithout('openssl', 'openssl', 'version')
const files = isTlsLeftOut ? undefined : makeCertificate()
t.teardown(() => files?.remove())
if (isTlsLeftOut) t.comment(`without TLS: ${isTlsLeftOut}`)
const planner = new Planner(seed, files !== undefined)
const soaked = new Soaked(files ? [files.key, files.certificate] : [])
t.teardown(() => soaked.process.kill())

const nothing: Left = { sources: [], withoutReceipt: [], timers: [], connections: [] }
const noConnection: Quiet = { sockets: 0, sessions: 0 }
const counts: Record<string, number> = {}
let heldAtFirst: Held
let total = 0

for (let number = 1; number <= rounds; number++) {
  t.test(`round ${number} (SOAK_SEED=${seed})`, async (t) => {
    await soak(t, number)
    // The first round has compiled and cached what the others use too.
    if (number === 1) heldAtFirst = await soaked.ask({ name: 'held' })
  })
}

t.test('nothing is left behind', async (t) => {
  const held: Held = await soaked.ask({ name: 'held' })
  const mebibytes = (held.heap + held.external - heldAtFirst.heap - heldAtFirst.external) / 2 ** 20
  t.comment(`${total} exports`, counts, `memory: ${mebibytes.toFixed(2)} MiB more`)
  t.ok(mebibytes < heapBound, `${mebibytes} MiB`)
  t.strictSame(held.listeners, heldAtFirst.listeners)
  t.strictSame(held.resources, heldAtFirst.resources)
  t.strictSame(held.warnings, [])
  for (const outcome of [
    'complete',
    'source_failed',
    'client_gone',
    'client_stalled',
    'source_stalled',
    'limit_reached',
    'server_closing',
    'ended by the server'
  ]) {
    t.ok(counts[outcome], `some ended ${outcome}`)
  }
  const ended = once(soaked.process, 'exit')
  soaked.process.disconnect()
  t.strictSame(await ended, [0, null], 'nothing keeps the process alive')
})

async function soak(t: Test, number: number): Promise<void> {
  await soaked.open()
  const plain = await openPlain(soaked.origins)
  await soaked.ask({ name: 'lookAtPlain' })
  for (const one of plain) one.destroy()

  const seen = new Map<Scene, Seen[]>()
  const round: Round = { soaked, kept: [], onPart: () => {} }
  const ordinary = scenesOf(`${number}`, exportsPerRound - underWayAtClose, false).values()
  const worker = async (): Promise<void> => {
    for (const scene of ordinary) seen.set(scene, await play(scene, round))
  }
  await Promise.all(Array.from({ length: atATime }, worker))
  await checkNothingLeft(t, round)

  await close(t, number, seen, round)
  checkFaults(t, seen)
}

function scenesOf(name: string, exports: number, isUnderWay: boolean): Scene[] {
  const scenes: Scene[] = []
  for (let left = exports; left > 0; left -= scenes.at(-1)?.plans.length ?? 0) {
    scenes.push(planner.scene(`${name}-${scenes.length}`, isUnderWay))
  }
  return scenes
}

async function checkNothingLeft(t: Test, { kept }: Round): Promise<void> {
  t.strictSame(await soaked.ask({ name: 'left' }), nothing, 'nothing is left of them')
  for (const one of kept.splice(0)) one.destroy()
  t.strictSame(await soaked.ask({ name: 'quiet' }), noConnection, 'no connection is open')
  const filled: Record<string, number> = await soaked.ask({ name: 'fill' })
  for (const [server, count] of Object.entries(filled)) t.equal(count, places, `${server} has all places`)
}

async function close(t: Test, number: number, seen: Map<Scene, Seen[]>, round: Round): Promise<void> {
  let left = planner.upTo(4_000_000)
  const onPart = (size: number): void => {
    left -= size
  }
  const last = scenesOf(`${number}-last`, underWayAtClose, true)
  const running = Promise.all(
    last.map(async (scene) => seen.set(scene, await play(scene, { ...round, onPart })))
  )
  let areOver = false
  running.then(() => {
    areOver = true
  })
  // Some sources only wait.
  const latest = performance.now() + planner.upTo(500)
  await until(() => left <= 0 || areOver || performance.now() > latest)
  const milliseconds: number = await soaked.ask({ name: 'close' })
  t.ok(milliseconds < closeBound, `the servers close in ${milliseconds} ms`)
  await running
  for (const one of round.kept.splice(0)) one.destroy()
  t.strictSame(await soaked.ask({ name: 'left' }), nothing, 'nothing is left of these')
  t.strictSame(await soaked.ask({ name: 'quiet' }), noConnection, 'no connection is open')
}

function checkFaults(t: Test, seen: Map<Scene, Seen[]>): void {
  const found = [...seen].flatMap(([scene, all]) =>
    all.flatMap((one) =>
      [...faultsOf(scene, one, soaked)].map((fault) => `${fault}: ${described(scene, one)}`)
    )
  )
  t.strictSame(found, [], 'every receipt says what was done, and what its client saw')
  for (const receipts of soaked.receipts.values()) {
    for (const receipt of receipts) {
      const outcome = outcomeOf(receipt)
      counts[outcome] = (counts[outcome] ?? 0) + 1
    }
  }
  total += [...seen.values()].flat().length
}

/** On one line, as many a fault comes more than once. */
function described({ plans, ...scene }: Scene, { plan, status, end, body }: Seen): string {
  const others = plans.map(({ id, cause, then, end, hook }) => ({ id, cause, then, end, hook }))
  const receipts = soaked.receipts.get(plan.id)
  return JSON.stringify({ plan, client: { status, end, bytes: body.bytes }, receipts, scene, others })
}
