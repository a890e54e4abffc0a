import { execFile } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { startEmbeddedPostgres } from '../database/embedded-postgres.ts'
import { prepareDatabase } from '../database/prepare.ts'

const root = join(import.meta.dirname, '..')
const cache = join(root, 'node_modules', '.cache', 'test-postgres')

/**
 * Puts the data of a PostgreSQL with sample cargoes into a folder. To make it takes seconds, to copy it a tenth of one: it is
 * made once for all tests, and anew when what makes it has changed.
 */
export async function copyPreparedPostgres(folder: string, rows: number): Promise<void> {
  const prepared = join(cache, `${await version()}-${rows}`)
  if (!existsSync(prepared)) await prepare(prepared, rows)
  await promisify(execFile)('cp', ['-a', `${prepared}/.`, folder])
}

/** Of two tests that make it at the same time, one moves it to its place. */
async function prepare(prepared: string, rows: number): Promise<void> {
  const own = join(cache, randomUUID())
  await mkdir(own, { recursive: true })
  const postgres = await startEmbeddedPostgres({ folder: own })
  await prepareDatabase(postgres.url, { rows })
  await postgres.stop()
  try {
    await rename(own, prepared)
  } catch {
    await rm(own, { recursive: true, force: true })
  }
}

async function version(): Promise<string> {
  const hash = createHash('sha256')
  const sources = (await readdir(join(root, 'database'))).toSorted().map((name) => join('database', name))
  for (const path of [...sources, 'package-lock.json']) hash.update(await readFile(join(root, path)))
  return hash.digest('hex').slice(0, 16)
}
