import type { FastifyBaseLogger } from 'fastify'
import { logSafely } from '../../csv-export/guard.ts'
import type { FileStore } from './files.ts'

/** Removes a file that no run has any more. One that cannot be removed now holds up nothing: a sweep tries it again. */
export async function discard(files: FileStore, fileId: string, log: FastifyBaseLogger): Promise<void> {
  try {
    await files.discard(fileId)
  } catch (err) {
    logSafely(log, 'warn', { err, fileId }, 'a file was not removed')
  }
}
