import { isErrored, Readable } from 'node:stream'

export interface NodeStream extends NodeJS.ReadableStream {
  readableFlowing?: boolean | null
  readableEnded?: boolean
  readableDidRead?: boolean
  readableAborted?: boolean
  errored?: Error | null
  /** Of one of HTTP/2. */
  rstCode?: number
  destroy?(error?: Error): unknown
  _readableState?: { endEmitted?: boolean; destroyed?: boolean }
}

/** What exports have been given: nobody can ask an iterator. */
const claimed = new WeakSet()
/** Streams of HTTP/2 that had been reset when they said that they end. */
const brokenOff = new WeakSet()

/**
 * Whether items are a stream, of Node or of the web, of which some may be missing: they have been read, or somebody else
 * reads them. One that is merely paused has them all, as has one that ended without any; one that has failed gives its
 * own error. Or an iterator of another export, which would be given the rest of its rows.
 */
export function isUsed(items: object): boolean {
  if (isClaimed(items)) return true
  if (isWebStream(items)) return items.locked || (!isErrored(items) && Readable.isDisturbed(items))
  if (!isNodeStream(items) || items.errored) return false
  if (Readable.isDisturbed(items) || (items.readableFlowing === true && !items.readableEnded)) return true
  // Whoever waits for rows will take them.
  return items.listenerCount('readable') > 0 || isUsedOldStream(items)
}

/** Whether a stream or an iterator is, or was, an export's. */
export function isClaimed(items: object): boolean {
  return claimed.has(items)
}

/**
 * A stream or an iterator is this export's from now on. Keeps a stream of Node from flowing for whoever comes to it later:
 * they are given what is read, and take nothing away. Its iterator would do so only with its first row.
 */
export function claim(items: object): void {
  if (isIterator(items) || isNodeStream(items) || isWebStream(items)) claimed.add(items)
  if (!isNodeStream(items)) return
  items.on('readable', () => {})
  // Whoever has all of it may reset it.
  if ('rstCode' in items) items.prependListener('end', () => items.rstCode && brokenOff.add(items))
}

/** readable-stream before version 4 cannot say whether a stream was read; of one that was destroyed it says the end. */
function isUsedOldStream({ readableDidRead, _readableState: state }: NodeStream): boolean {
  return readableDidRead === undefined && (state?.endEmitted === true || state?.destroyed === true)
}

/**
 * Whether a stream that says that it is done has not come to its end. One that emits 'error' without an error says so, as does
 * one of HTTP/2 whose connection was closed.
 */
export function isCutShort(items: object): boolean {
  if (!isNodeStream(items)) return false
  const { readableAborted, readableDidRead, _readableState: state } = items
  if (readableAborted || brokenOff.has(items)) return true
  // readable-stream before version 4: `pump()` destroys what it feeds so, when something before it fails.
  return readableDidRead === undefined && state?.destroyed === true && state.endEmitted === false
}

export function isIterator(items: object): items is Iterator<unknown> {
  return 'next' in items && typeof items.next === 'function'
}

export function isWebStream(items: object): items is ReadableStream {
  return 'locked' in items && 'getReader' in items && typeof items.getReader === 'function'
}

export function isNodeStream(items: object): items is NodeStream {
  return 'on' in items && 'listenerCount' in items && 'readableFlowing' in items
}
