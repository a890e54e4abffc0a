import { readdir, readlink } from 'node:fs/promises'
import { DirectoryFiles } from '../../../../plugins/runs/index.ts'
import type { TestedStore } from './contract.ts'

export const chunkSize = 1_048_576

/** Files of a folder, prepared. */
export async function openFolder(folder: string): Promise<TestedStore> {
  const store = new DirectoryFiles({ folder })
  await store.prepare()
  return {
    store,
    chunkSize,
    count: async (id) => (await readdir(folder)).filter((name) => name.includes(id)).length,
    async held() {
      // Where there is no /proc, nothing is said.
      const open = await readdir('/proc/self/fd').catch(() => [])
      const targets = await Promise.all(open.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')))
      return targets.filter((target) => target.startsWith(folder)).length
    }
  }
}
