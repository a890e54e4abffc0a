import { mark } from '../stream/chunks.ts'
import type { Coder } from '../stream/coders.ts'

/**
 * Chunks, coded. A mark has the coder give out what it holds, and is passed on if that is nothing.
 * @param open called before the first chunk is given, with the body's size where it is known to be so small; without a
 * coder the chunks are given as they are
 */
export async function* compress(
  chunks: AsyncIterator<Uint8Array>,
  open: (size: number) => Coder | undefined
): AsyncGenerator<Uint8Array, undefined> {
  let step = await chunks.next()
  // The body is small if nothing follows its first chunk, not even a pause.
  let first = step.done ? undefined : step.value
  if (first !== undefined && first.length > 0) step = await chunks.next()
  else first = undefined
  const coder = open(step.done ? (first?.length ?? 0) : Number.POSITIVE_INFINITY)
  const code = coder === undefined ? asIs : codeWith(coder)
  try {
    if (first !== undefined) {
      const coded = await code(first)
      // While a client stalls, this function would keep whatever it has a name for.
      first = undefined
      yield* coded
    }
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
