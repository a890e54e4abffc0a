import { CSV_EXPORT_NOT_INSTALLED } from './errors.ts'

/**
 * An optional peer, once it has been loaded: only who uses what needs it has to have it.
 *
 * @param user what needs it
 * @throws CSV_EXPORT_NOT_INSTALLED
 */
export async function peer<T>(name: string, user: string, loading: Promise<T>): Promise<T> {
  try {
    return await loading
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // Of an import, or of a require.
    if (code !== 'ERR_MODULE_NOT_FOUND' && code !== 'MODULE_NOT_FOUND') throw error
    throw new CSV_EXPORT_NOT_INSTALLED(user, name, name, { cause: error })
  }
}
