import { mark } from '../stream/chunks.ts'
import type { Coder } from '../stream/coders.ts'

/** How a body is coded. */
export interface Coding {
  /** Bytes; a smaller body stays as it is. */
  readonly smallest: number
  /** Called before the first chunk is given; without a coder the chunks are given as they are. */
  open(): Coder | undefined
}

/** Chunks, coded. A mark has the coder give out what it holds, and is passed on if that is nothing. */
export async function* compress(
  chunks: AsyncIterator<Uint8Array>,
  { smallest, open }: Coding
): AsyncGenerator<Uint8Array, undefined> {
  let step = await chunks.next()
  // It may be all there is, if nothing follows, not even a pause.
  let first: Uint8Array | undefined
  if (!step.done && step.value.length > 0 && step.value.length < smallest) {
    first = step.value
    step = await chunks.next()
  }
  const coder = step.done ? undefined : open()
  const code = coder === undefined ? asIs : codeWith(coder)
  try {
    if (first !== undefined) yield* await code(first)
    // While a client stalls, this function would keep whatever it has a name for.
    first = undefined
    while (!step.done) {
      const coded = await code(step.value)
      step = forgotten
      yield* coded
      step = await chunks.next()
    }
    yield* await code(undefined)
  } finally {
    coder?.stream.destroy()
  }
}

const forgotten = { done: false, value: mark } as const

type Code = (chunk: Uint8Array | undefined) => Promise<Uint8Array[]>

const asIs: Code = async (chunk) => (chunk === undefined ? [] : [chunk])

/** What a coder gives for a chunk, for a mark, or for the end: all of it, so that nothing waits in its stream. */
function codeWith({ stream, flush }: Coder): Code {
  let given: Uint8Array[] = []
  let onError: (error: Error) => void
  stream.on('data', (chunk) => given.push(chunk)).on('error', (error) => onError(error))
  return async (chunk) => {
    await new Promise<void>((resolve, reject) => {
      onError = reject
      // It is told of an error by its event too, which is all that comes of some.
      const done = (error?: Error | null): void => void (error || resolve())
      if (chunk === undefined) stream.once('end', resolve).end()
      else if (chunk.length === 0) flush(done)
      else stream.write(chunk, done)
    })
    const all = given
    given = []
    return all.length === 0 && chunk?.length === 0 ? [mark] : all
  }
}
