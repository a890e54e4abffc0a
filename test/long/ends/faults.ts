import type { Receipt } from '../../../plugins/csv-export/index.ts'
import { fileOf } from './file.ts'
import type { Cause, Plan, Scene } from './plans.ts'
import type { Seen } from './seen.ts'

/** What the server has told of the exports of a round. */
export interface Told {
  called: Set<string>
  begun: Set<string>
  receipts: Map<string, Receipt[]>
}

/** The status of a receipt, but for those of which the server's own code has ended the reply. */
type Outcome = Receipt['status'] | 'ended by the server'

export function outcomeOf({ status, errorCode }: Receipt): Outcome {
  return status === 'source_failed' && errorCode === 'CSV_EXPORT_BODY_DESTROYED'
    ? 'ended by the server'
    : status
}

/** What each cause leads to by itself. */
const outcomes: Record<Cause, Outcome[]> = {
  complete: ['complete'],
  throw: ['source_failed'],
  maxRows: ['limit_reached'],
  maxDuration: ['limit_reached'],
  sourceStalls: ['source_stalled'],
  leave: ['client_gone'],
  stall: ['client_stalled'],
  // A call that is given an error ends it for that.
  ended: ['ended by the server', 'source_failed'],
  closing: [],
  replaced: [],
  head: []
}

/** Those that leave their connection open. */
const endings = new Set<Cause>(['complete', 'replaced', 'head'])

function isBrokenByOthers({ kind, plans }: Scene, plan: Plan): boolean {
  const others = plans.filter((other) => other !== plan)
  if (kind === 'pipelined') return others.some(({ cause }) => !endings.has(cause))
  return kind === 'session' && others.some(({ end }) => end?.startsWith('session'))
}

/** What may end an export of a scene before its own cause does. */
function others(scene: Scene, plan: Plan): Outcome[] {
  const { server, leave, kind, underWayAtClose } = scene
  const possible: Outcome[] = []
  if (plan.cause === 'leave' && plan.then === 'end') possible.push('complete')
  if (leave !== 'not' && leave !== 'session.close') possible.push('client_gone')
  if (underWayAtClose) possible.push('server_closing')
  if (server === 'timed') possible.push('ended by the server')
  // The writes that wait are cancelled with an error of the network.
  if (server === 'timed' && plan.cause === 'stall') possible.push('client_gone')
  if (!isBrokenByOthers(scene, plan)) return possible
  possible.push('ended by the server')
  // A session that is given an error gives it to each of its streams.
  if (kind === 'session') possible.push('source_failed')
  // The server ends its side behind the reply before it, and a client of TLS answers that with the end of its own.
  if (server === 'tls') possible.push('client_gone')
  return possible
}

/** What does not fit together of what was done, of what the client has seen, and of what the server says. */
export function* faultsOf(scene: Scene, seen: Seen, { called, begun, receipts }: Told): Generator<string> {
  const { plan, status, exportId, end, body } = seen
  const [receipt, ...more] = receipts.get(plan.id) ?? []
  const outcome = receipt && outcomeOf(receipt)
  if (more.length > 0) yield `${more.length + 1} receipts`
  if (end === 'none') yield 'a client that waits for good'
  if (!body.isRight) yield 'a wrong byte'
  if (exportId !== undefined && exportId !== plan.id) yield 'a wrong Export-Id'
  if (receipt === undefined && (begun.has(plan.id) || exportId !== undefined)) yield 'no receipt'
  if (receipt !== undefined && !called.has(plan.id)) yield 'a receipt of nothing'
  if (plan.cause === 'replaced' || plan.cause === 'head') {
    yield* faultsWithoutFile(seen, outcome)
    return
  }

  const possible = [...outcomes[plan.cause], ...others(scene, plan)]
  if (outcome !== undefined && !possible.includes(outcome)) yield `a receipt that says ${outcome}`
  const isWhole = end === 'whole' && status === 200
  if (isWhole && !body.isFileOf(plan.rows)) yield 'a short file with a good end'
  if (isWhole && outcome !== 'complete') yield `a good end of what the receipt says is ${outcome}`
  if (outcome !== 'complete') return
  // Given to the operating system, it is lost by a reset that comes behind it.
  if (end === 'short' && !isBrokenByOthers(scene, plan))
    yield 'a complete export that its client has seen broken'
  const { rows, bytes } = receipt as Receipt
  if (rows !== plan.rows || bytes !== fileOf(plan.rows).length) yield 'a receipt of another file'
}

function* faultsWithoutFile({ plan, status, end, body }: Seen, outcome?: Outcome): Generator<string> {
  // One whose client has left before there was a reply.
  if (outcome !== undefined && outcome !== 'client_gone') yield `a receipt that says ${outcome}`
  if (end !== 'whole' || status !== 200) return
  if (plan.cause === 'replaced' && body.text !== 'other') yield 'another body'
  if (plan.cause === 'head' && body.bytes > 0) yield 'a body'
}
