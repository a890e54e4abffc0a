import { CSV_EXPORT_FILE_INCOMPLETE } from '../errors.ts'

export interface SealedFile {
  id: string
  /** Bytes; undefined where there is no such file, or it is not sealed. */
  size: number | undefined
  /** The bytes from `from` to before `to`; fewer where there are no more, undefined where the file is no longer there. */
  read(from: number, to: number): Promise<Buffer | undefined>
}

/**
 * A part of a file, in pieces of at most `pieceSize` bytes. Nothing is held while the reader has one of them: it may be slow,
 * or never come back.
 * @throws CSV_EXPORT_FILE_INCOMPLETE
 */
export async function* readPieces(
  { id, size, read }: SealedFile,
  from: number,
  to: number,
  pieceSize: number
): AsyncGenerator<Buffer> {
  if (size === undefined || size < to) throw new CSV_EXPORT_FILE_INCOMPLETE(id)
  for (let at = from; at < to; at += pieceSize) {
    const end = Math.min(at + pieceSize, to)
    const piece = await read(at, end)
    if (piece?.length !== end - at) throw new CSV_EXPORT_FILE_INCOMPLETE(id)
    yield piece
  }
}
