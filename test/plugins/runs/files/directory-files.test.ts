import { randomUUID } from 'node:crypto'
import { mkdir, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { DirectoryFiles } from '../../../../plugins/runs/index.ts'
import { temporaryFolder } from '../../../database.ts'
import { collect, iterate } from '../../pg/pools.ts'
import { contract, failsWhenFull } from './contract.ts'
import { chunkSize, openFolder } from './directory-store.ts'
import { skipSmallDisk, smallDisk } from './small-disk.ts'

const folder = join(await temporaryFolder(t), 'not/there yet')
contract(t, await openFolder(folder), { large: 8 * chunkSize + 5 })

t.test('its folder is made for its owner alone', { skip: process.platform === 'win32' }, async (t) => {
  t.equal((await stat(folder)).mode & 0o777, 0o700)
})

t.test('what else lies in the folder is no file of a run', async (t) => {
  const folder = await temporaryFolder(t)
  const { store } = await openFolder(folder)
  const id = randomUUID()
  for (const name of ['lost+found', `${id}.csv`, `${id}.partial.partial`, '.partial', id.toUpperCase()]) {
    await writeFile(join(folder, name), '')
  }
  t.same(await collect(store.list()), [])
})

t.test('the same id is not given twice', async (t) => {
  const { store } = await openFolder(await temporaryFolder(t))
  const id = randomUUID()
  await store.create(id)
  await t.rejects(store.create(id), { code: 'EEXIST' })
})

t.test('a file that has become shorter breaks its reader', async (t) => {
  const folder = await temporaryFolder(t)
  const { store } = await openFolder(folder)
  const id = randomUUID()
  const writer = await store.create(id)
  await writer.append(Buffer.alloc(300_000))
  await writer.seal()
  const reader = iterate<Buffer>(store.read(id, 0, 300_000))
  await reader.next()
  await truncate(join(folder, id), 140_000)
  await t.rejects(reader.next(), { code: 'CSV_EXPORT_FILE_INCOMPLETE' })
})

t.test('errors of the file system are told as they are', async (t) => {
  const folder = await temporaryFolder(t)
  const { store } = await openFolder(folder)
  const id = randomUUID()
  const writer = await store.create(id)
  await mkdir(join(folder, id))
  await t.rejects(writer.seal(), { code: 'EISDIR' })
  await t.rejects(openFolder(join(folder, `${id}.partial`, 'x')), { code: 'ENOTDIR' })
  await t.rejects(collect(new DirectoryFiles({ folder: join(folder, `${id}.partial`) }).read(id, 0, 0)), {
    code: 'ENOTDIR'
  })
})

t.test('a disk that is full', { skip: skipSmallDisk }, async (t: Test) => {
  const room = 3 * chunkSize
  await failsWhenFull(t, await openFolder(await smallDisk(t, room)), room)
})
