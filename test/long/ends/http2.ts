import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import { connect as connectSocket, type Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { Body } from './file.ts'
import type { Stage } from './http1.ts'
import type { Plan, Scene } from './plans.ts'
import { endOf, headersOf, isOverInTime, type Seen } from './seen.ts'

/** Several exports on one session at the same time. */
export async function playSession(scene: Scene, stage: Stage): Promise<Seen[]> {
  const { origin, protocol, hostname, port } = new URL(stage.origin)
  const options = { host: hostname, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ['h2'] }
  const socket = protocol === 'https:' ? connectTls(options) : connectSocket(options)
  socket.on('error', () => {})
  const session = connect(origin, { createConnection: () => socket }).on('error', () => {})
  let left = scene.bytes
  let isLeft = false
  const onPart = (size: number): void => {
    stage.onPart(size)
    left -= size
    if (left > 0 || isLeft || scene.leave === 'not') return
    isLeft = leaveSession(scene, session, socket)
  }
  const seen = await Promise.all(
    scene.plans.map((plan) =>
      playStream(plan, session, { ...stage, onPart }, () => isLeft && !isGraceful(scene))
    )
  )
  if (scene.leave === 'not') stage.keep(session)
  else session.destroy()
  return seen
}

/** What runs on the session goes on. */
const isGraceful = ({ leave }: Scene): boolean => leave === 'session.close'

function leaveSession({ leave, code }: Scene, session: ClientHttp2Session, socket: Socket): boolean {
  if (leave === 'session.close') session.close()
  else if (leave === 'session.destroy') session.destroy()
  else if (leave === 'goaway') session.goaway(code)
  // A TLS socket has no reset of its own.
  else if (leave === 'reset' && !('encrypted' in socket)) socket.resetAndDestroy()
  else socket.destroy()
  return true
}

async function playStream(
  plan: Plan,
  session: ClientHttp2Session,
  { onPart, onceEnded }: Stage,
  isSessionLeft: () => boolean
): Promise<Seen> {
  const { cause, bytes, turns } = plan
  const seen: Seen = { plan, status: undefined, exportId: undefined, end: 'none', body: new Body(false) }
  let isStalled = false
  const method = cause === 'head' ? 'HEAD' : 'GET'
  const stream = session.request({ ':path': '/export', ':method': method, ...headersOf(plan) })
  const leave = (): void => {
    if (seen.end === 'none') seen.end = 'left'
    leaveStream(stream, plan)
  }
  stream.on('response', (headers) => {
    seen.status = headers[':status']
    seen.exportId = headers['export-id'] as string | undefined
    const coding = headers['content-encoding'] as string | undefined
    seen.body = new Body(seen.status === 200 && cause !== 'replaced', coding)
  })
  stream.on('data', (part: Buffer) => {
    seen.body.take(part)
    const isDue = seen.status === 200 && seen.body.bytes >= (bytes ?? 0)
    if (cause === 'leave' && isDue && bytes !== undefined) leave()
    if (cause === 'stall' && isDue && !isStalled) {
      isStalled = true
      stream.pause()
      onceEnded(plan.id, () => stream.resume())
    }
    onPart(part.length)
  })
  for (const event of ['error', 'aborted']) {
    stream.on(event, () => {
      if (seen.end !== 'left') seen.end = 'short'
    })
  }
  stream.on('end', () => {
    // Node says the end of a stream, too, when its connection has been closed.
    const isClosed = session.destroyed || session.socket?.readableEnded === true
    if (seen.end === 'none') seen.end = isClosed ? 'short' : 'whole'
  })
  const closed = new Promise<void>((resolve) => stream.once('close', resolve))
  if (cause === 'leave' && bytes === undefined) {
    for (let passed = 0; passed < turns; passed++) await turn()
    leave()
  }
  const isInTime = await isOverInTime(closed, () => stream.destroy())
  if (stream.rstCode !== 0 && seen.end === 'whole') seen.end = 'short'
  if (seen.end !== 'whole' && isSessionLeft()) seen.end = 'left'
  seen.end = endOf(seen.end, isInTime)
  return seen
}

function leaveStream(stream: ClientHttp2Stream, { reset }: Plan): void {
  if (reset === 'destroy()') stream.destroy()
  else if (reset === 'destroy(error)') stream.destroy(new Error('enough'))
  else stream.close(reset)
}
