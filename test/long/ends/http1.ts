import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { repliesIn } from '../../attacks/wire.ts'
import { Body } from './file.ts'
import type { Plan, Scene } from './plans.ts'
import { endOf, headersOf, isOverInTime, type Seen } from './seen.ts'

/** What is open until the server has been looked at. */
export interface Kept {
  destroy(): unknown
}

export interface Stage {
  /** Where the scene's server is. */
  origin: string
  /** Told what is to be kept. */
  keep(kept: Kept): void
  /** Told the bytes that a client has got. */
  onPart(size: number): void
  /** Calls back when the export has a receipt. */
  onceEnded(id: string, callback: () => void): void
}

/** One export a connection, or several, one after the other. */
export async function playRequests({ kind, plans }: Scene, stage: Stage): Promise<Seen[]> {
  const isTls = stage.origin.startsWith('https:')
  const options = { keepAlive: true, maxSockets: 1, rejectUnauthorized: false }
  const agent = isTls ? new HttpsAgent(options) : new HttpAgent(options)
  if (kind === 'kept') stage.keep(agent)
  const seen: Seen[] = []
  for (const plan of plans) seen.push(await playRequest(plan, stage, agent))
  if (kind !== 'kept') agent.destroy()
  return seen
}

async function playRequest(
  plan: Plan,
  { origin, onPart, onceEnded }: Stage,
  agent: HttpAgent
): Promise<Seen> {
  const { cause, bytes, turns } = plan
  const seen: Seen = { plan, status: undefined, exportId: undefined, end: 'none', body: new Body(false) }
  const send = origin.startsWith('https:') ? httpsRequest : httpRequest
  let isStalled = false
  const method = cause === 'head' ? 'HEAD' : 'GET'
  const request = send(`${origin}/export`, { agent, method, headers: headersOf(plan) })
  const leave = (): void => {
    if (seen.end === 'none') seen.end = 'left'
    request.destroy()
  }
  const onResponse = (response: IncomingMessage): void => {
    const { 'content-encoding': coding, 'export-id': id } = response.headers
    seen.status = response.statusCode
    seen.exportId = id as string | undefined
    seen.body = new Body(seen.status === 200 && cause !== 'replaced', coding)
    response.on('error', () => {})
    response.on('data', (part: Buffer) => {
      seen.body.take(part)
      onPart(part.length)
      const isDue = seen.status === 200 && seen.body.bytes >= (bytes ?? 0)
      if (cause === 'leave' && isDue && bytes !== undefined) leave()
      // A client that does not read does not hear of the end.
      if (cause === 'stall' && isDue && !isStalled) {
        isStalled = true
        response.pause()
        onceEnded(plan.id, () => response.resume())
      }
    })
    response.on('end', () => {
      if (seen.end === 'none') seen.end = response.complete ? 'whole' : 'short'
    })
  }
  request.on('error', () => {}).on('response', onResponse)
  if (cause === 'leave' && bytes === undefined) after(turns).then(leave)
  request.end()
  const closed = new Promise((resolve) => request.once('close', resolve))
  const isInTime = await isOverInTime(closed, leave)
  seen.end = endOf(seen.end, isInTime)
  return seen
}

async function after(turns: number): Promise<void> {
  for (let passed = 0; passed < turns; passed++) await turn()
}

/** Requests written at once, the last of which asks for the end of the connection; of HTTP/1.0 a single one. */
export async function playWire(scene: Scene, { origin, onPart }: Stage): Promise<Seen[]> {
  const { kind, plans, leave, bytes } = scene
  const { hostname, port, protocol } = new URL(origin)
  const options = { host: hostname, port: Number(port), allowHalfOpen: true, rejectUnauthorized: false }
  const socket = protocol === 'https:' ? connectTls(options) : connect(options)
  const version = kind === 'HTTP/1.0' ? '1.0' : '1.1'
  const [first] = plans as [Plan]
  let isLeft = false
  const leaveAs = (way: Scene['leave']): void => {
    if (isLeft) return
    isLeft = true
    if (way === 'half-close') socket.end()
    else if (way === 'reset' && protocol === 'http:') socket.resetAndDestroy()
    else socket.destroy()
  }
  // The export of an HTTP/1.0 client has the connection to itself.
  const isDue = leave !== 'not' || (kind === 'HTTP/1.0' && first.cause === 'leave')
  const way = leave === 'not' ? 'destroy' : leave
  const received: Buffer[] = []
  let size = 0
  let end: 'none' | 'cut' | 'reset' = 'none'
  socket.on('data', (part: Buffer) => {
    received.push(part)
    size += part.length
    onPart(part.length)
    if (isDue && size >= (first.bytes ?? bytes)) leaveAs(way)
  })
  socket.on('error', () => {
    end = 'reset'
  })
  socket.on('end', () => {
    if (end === 'none') end = 'cut'
    socket.end()
  })
  for (const plan of plans) socket.write(requestOf(plan, version, plan === plans.at(-1)))
  if (isDue && first.bytes === undefined) after(first.turns).then(() => leaveAs(way))
  const closed = new Promise((resolve) => socket.once('close', resolve))
  const isInTime = await isOverInTime(closed, () => socket.destroy())
  const replies = repliesIn(Buffer.concat(received).toString('latin1'), end)
  // A client that has ended its own side alone sees what comes.
  const isGone = isLeft && way !== 'half-close'
  return plans.map((plan, index) => {
    const reply = replies[index]
    const exportId = /^export-id: (.*)$/im.exec(reply?.head ?? '')?.[1]?.trim()
    const coding = /^content-encoding: (.*)$/im.exec(reply?.head ?? '')?.[1]?.trim()
    const body = new Body(reply?.status === 200 && plan.cause !== 'replaced', coding)
    body.take(Buffer.from(reply?.body ?? '', 'latin1'))
    const isWhole = reply?.end === 'whole'
    const other = endOf(isGone ? 'left' : 'none', isInTime)
    return { plan, status: reply?.status, exportId, end: isWhole ? 'whole' : other, body }
  })
}

function requestOf(plan: Plan, version: string, isLast: boolean): string {
  const headers = { host: 'a', ...(isLast && { connection: 'close' }), ...headersOf(plan) }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return `GET /export HTTP/${version}\r\n${lines.join('')}\r\n`
}
