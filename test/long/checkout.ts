import { cp } from 'node:fs/promises'
import { join, relative } from 'node:path'

const root = join(import.meta.dirname, '../..')
const generated = new Set(['.git', '.tap', '.postgres', 'dist', 'node_modules'])

/** Copies what is not generated. */
export function copyCheckout(folder: string): Promise<void> {
  return cp(root, folder, {
    recursive: true,
    // The folders of test/ that have packages of their own have them installed while other tests run.
    filter: (path) =>
      !relative(root, path)
        .split('/')
        .some((name) => generated.has(name))
  })
}
