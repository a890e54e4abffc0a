import t from 'tap'
import { startDatabase, temporaryFolder } from '../database.ts'
import { largeFile } from '../plugins/runs/files/contract.ts'
import { openFolder } from '../plugins/runs/files/directory-store.ts'
import { openFiles } from '../plugins/runs/files/postgres-store.ts'
import { scaled, scaledTimeout } from './scale.ts'

t.setTimeout(scaledTimeout(300_000))
const size = scaled(2 ** 30)

t.test('a large file of a run in a folder', async (t) => {
  await largeFile(t, await openFolder(await temporaryFolder(t)), size)
})

t.test('a large file of a run in PostgreSQL', async (t) => {
  const url = await startDatabase(t, { rows: 1 })
  await largeFile(t, await openFiles(t, url, { schema: 'large' }), size)
})
