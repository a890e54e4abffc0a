import { readdirSync, readlinkSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import type { Watch } from './engine.ts'

/** It has no server. What has been written meanwhile cannot leave the log while a statement still reads from before. */
export async function watchSqlite(): Promise<Watch> {
  return {
    async running() {
      const database = new DatabaseSync(openFile(), { timeout: 0 })
      const result = database.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get() as { busy: number }
      database.close()
      return result.busy
    },
    close: async () => {}
  }
}

function openFile(): string {
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const file = readlinkSync(`/proc/self/fd/${fd}`)
      if (file.endsWith('/sources.db')) return file
    } catch {}
  }
  throw new Error('no database is open')
}
