import { cp } from 'node:fs/promises'
import { join, relative } from 'node:path'

const root = join(import.meta.dirname, '../..')
const generated = new Set(['.git', '.tap', '.postgres', 'dist', 'node_modules'])

/** Copies what is not generated. */
export function copyCheckout(folder: string): Promise<void> {
  return cp(root, folder, {
    recursive: true,
    filter: (path) => !generated.has(relative(root, path).split('/')[0] as string)
  })
}
