import { EventEmitter } from 'node:events'
import { attempt } from '../guard.ts'
import { isNodeStream } from './streams.ts'

/** A stream that takes what another one is piped into it, and may be piped into others. */
export interface Stage {
  on(event: 'error', listener: () => void): unknown
  emit(event: 'error', error: Error): unknown
  // biome-ignore lint/complexity/noBannedTypes: as Node has it
  rawListeners(event: 'end'): Function[]
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
  const next = endedBy(stream)
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
  for (const stage of next) failStage(stage, error)
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

type Once = { listener?: { name: string } }

/**
 * What a stream is piped into, and ends, as far as that is sure. Node does not keep who asked for `end: false`, but each pipe has a
 * listener for one 'end', in their order: https://github.com/nodejs/node/blob/main/lib/internal/streams/readable.js
 */
function endedBy(stream: Stage): unknown[] {
  const pipes = pipesOf(stream)
  const names = stream.rawListeners('end').flatMap((raw) => (raw as Once).listener?.name ?? [])
  const ofPipes = names.filter((name) => name === 'onend' || name === 'unpipe')
  // Old streams have one of their own.
  return ofPipes.length === pipes.length ? pipes.filter((_stage, index) => ofPipes[index] === 'onend') : []
}
