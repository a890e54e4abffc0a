import { EventEmitter } from 'node:events'
import { attempt } from '../guard.ts'
import { isNodeStream } from './streams.ts'

/** A stream that takes what another one is piped into it, and may be piped into others. */
export interface Stage {
  on(event: 'error', listener: () => void): unknown
  emit(event: 'error', error: Error): unknown
  listeners(event: 'end'): { name: string }[]
  destroy?(error: Error): unknown
  pipe(destination: unknown, options?: { end?: boolean }): unknown
  unpipe?(destination: unknown): unknown
  _readableState?: { pipes?: unknown; destroyed?: boolean }
}

/**
 * Of a hook, which has it watched by Fastify later, if at all. So is what it is piped into, before or after this: Node tells nobody
 * behind a stage that it has failed. What is to outlive it, as it is piped into with `end: false`, does.
 */
export function failStream(stream: Stage, error: Error): void {
  const next = pipesOf(stream)
  const isEnded = endsOf(stream)
  // An 'error' that nobody listens to ends the process.
  stream.on('error', () => {})
  if (stream.destroy !== undefined) stream.destroy(error)
  // One of the oldest kind cannot be destroyed.
  else stream.emit('error', error)
  const { pipe } = stream
  const value = (stage: unknown, options?: { end?: boolean }) => {
    if (options?.end !== false) failStage(stage, error)
    return pipe.call(stream, stage, options)
  }
  // Some cannot be given another one.
  attempt(() => Object.defineProperty(stream, 'pipe', { value, configurable: true, writable: true }))
  for (const [index, stage] of next.entries()) if (isEnded[index] !== false) failStage(stage, error)
}

/** Whether what a stage is given reaches another stream through pipes. */
export function leadsTo(stage: unknown, destination: unknown, seen = new Set<unknown>()): boolean {
  if (stage === destination) return true
  if (seen.has(stage)) return false
  seen.add(stage)
  return pipesOf(stage).some((next) => leadsTo(next, destination, seen))
}

/** Nobody waits for what only takes bytes, as a file does, or the reply. */
function failStage(stage: unknown, error: Error): void {
  if (stage instanceof EventEmitter && isNodeStream(stage) && !stage._readableState?.destroyed) {
    failStream(stage as Stage, error)
  }
}

function pipesOf(stage: unknown): unknown[] {
  const pipes = [(stage as Partial<Stage>)._readableState?.pipes].flat()
  // Of those before readable-stream 4, there may be none.
  return pipes.filter((next) => next !== undefined && next !== null)
}

/**
 * Whether a stream ends what it is piped into, for each of these. Node does not keep who asked for `end: false`, but each pipe has a
 * listener to 'end', in their order: https://github.com/nodejs/node/blob/main/lib/internal/streams/readable.js
 */
function endsOf(stream: Stage): boolean[] {
  const names = stream.listeners('end').map(({ name }) => name)
  return names.filter((name) => ['onend', 'unpipe'].includes(name)).map((name) => name === 'onend')
}
