import { EventEmitter } from 'node:events'
import { isNodeStream } from './streams.ts'

interface Stage {
  on(event: 'error', listener: () => void): unknown
  emit(event: 'error', error: Error): unknown
  destroy?(error: Error): unknown
  pipe?: unknown
  _readableState?: { pipes?: unknown; destroyed?: boolean }
}

/**
 * Of a hook, which has it watched by Fastify later, if at all. So is what it is piped into, before or after this: Node tells nobody
 * behind a stage that it has failed.
 */
export function failStream(stream: Stage, error: Error): void {
  const later = [stream._readableState?.pipes].flat()
  // An 'error' that nobody listens to ends the process.
  stream.on('error', () => {})
  if (stream.destroy !== undefined) stream.destroy(error)
  // One of the oldest kind cannot be destroyed.
  else stream.emit('error', error)
  stream.pipe = (next: unknown) => {
    failStage(next, error)
    return next
  }
  for (const next of later) failStage(next, error)
}

/** Nobody waits for what only takes bytes, as a file does, or the reply. */
function failStage(stage: unknown, error: Error): void {
  if (stage instanceof EventEmitter && isNodeStream(stage) && !stage._readableState?.destroyed) {
    failStream(stage as Stage, error)
  }
}
