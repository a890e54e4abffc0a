import { Body } from './file.ts'
import { type Kept, playRequests, playWire, type Stage } from './http1.ts'
import { playSession } from './http2.ts'
import type { Plan, Scene } from './plans.ts'
import type { Injected, InjectedSeen } from './readers.ts'
import { headersOf, isOverInTime, type Seen } from './seen.ts'
import type { Soaked } from './soaked.ts'

/** What the clients of a round have in common. */
export interface Round {
  soaked: Soaked
  /** Connections that are open until the server has been looked at. */
  kept: Kept[]
  onPart(size: number): void
}

/** Resolves to what each of its clients has seen, when all of them are over. */
export async function play(scene: Scene, { soaked, kept, onPart }: Round): Promise<Seen[]> {
  if (scene.kind === 'injected') return Promise.all(scene.plans.map((plan) => playInjected(plan, soaked)))
  const stage: Stage = {
    origin: soaked.origins[scene.server] as string,
    keep: (one) => kept.push(one),
    onPart,
    onceEnded: (id, callback) =>
      soaked.receipts.has(id) ? callback() : soaked.once(`receipt ${id}`, callback)
  }
  if (scene.kind === 'session') return playSession(scene, stage)
  return scene.kind === 'HTTP/1.0' || scene.kind === 'pipelined'
    ? playWire(scene, stage)
    : playRequests(scene, stage)
}

async function playInjected(plan: Plan, soaked: Soaked): Promise<Seen> {
  const { cause, bytes = 0, turns, rows } = plan
  const leaves: Partial<Record<typeof cause, Injected['leave']>> = {
    leave: plan.bytes === undefined ? 'abort' : 'destroy',
    stall: 'stall'
  }
  const leave = leaves[cause] ?? 'not'
  const injected = { headers: headersOf(plan), leave, bytes, turns, rows }
  let answer: InjectedSeen | undefined
  const asked = soaked.ask<InjectedSeen>({ name: 'inject', injected }).then((seen) => {
    answer = seen
  })
  const { promise, resolve } = Promise.withResolvers<void>()
  await isOverInTime(Promise.race([asked, promise]), resolve)
  const { status, exportId, end = 'none' } = answer ?? { status: undefined, exportId: undefined }
  return { plan, status, exportId, end, body: new InjectedBody(answer) }
}

/** What the server's process has found of it. */
class InjectedBody extends Body {
  readonly #seen: InjectedSeen | undefined

  constructor(seen: InjectedSeen | undefined) {
    super(false)
    this.#seen = seen
    this.bytes = seen?.bytes ?? 0
    this.isRight = seen?.isRight ?? true
  }

  override isFileOf(): boolean {
    return this.#seen?.isFile === true
  }

  override get text(): string {
    return this.#seen?.text ?? ''
  }
}
