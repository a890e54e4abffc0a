import { createHash, randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { FileStore, FileWriter } from '../../../../plugins/runs/index.ts'
import { collect, iterate } from '../../pg/pools.ts'

export interface TestedStore {
  store: FileStore
  /** Of a write of the store, in bytes: at its multiples things go wrong. */
  chunkSize: number
  /** What there is of a file, sealed, half written or forgotten: rows, files, objects. */
  count(id: string): Promise<number>
  /** What reads hold at this moment: connections, open files, requests. */
  held(): number | Promise<number>
  /** A part that is under way while its S3 upload is aborted may stay, out of reach of S3, until the server removes it. */
  mayKeepPart?: boolean
}

/** Bytes that differ from place to place, so that none is taken for another. */
export function bytesOf(length: number, start = 0): Buffer {
  const words = Buffer.alloc(length + 4)
  for (let at = 0; at < length; at += 4) words.writeUInt32LE(((start + at) * 2_654_435_761) % 2 ** 32, at)
  return words.subarray(0, length)
}

/** Appends bytes as an export does, a little at a time. */
async function append(writer: FileWriter, length: number, start = 0, step = 65_536): Promise<void> {
  for (let at = 0; at < length; at += step) {
    await writer.append(bytesOf(Math.min(step, length - at), start + at))
  }
}

async function makeFile({ store }: TestedStore, length: number): Promise<string> {
  const id = randomUUID()
  const writer = await store.create(id)
  await append(writer, length)
  await writer.seal()
  return id
}

async function read({ store }: TestedStore, id: string, from: number, to: number): Promise<Buffer> {
  const pieces = await collect(store.read(id, from, to))
  for (const { length } of pieces) if (length > 262_144) throw new Error(`a piece of ${length} bytes`)
  return Buffer.concat(pieces)
}

/** Where a file has been taken away from its writer, it hears of it at the latest when it seals. */
async function writeOn(writer: FileWriter, length: number, start: number): Promise<void> {
  await append(writer, length, start)
  await writer.seal()
}

/**
 * What every store of files does. Each test has files of its own, so that one store is enough.
 * @param large bytes of the largest file
 * @param times how often what depends on the moment is tried
 */
export function contract(
  t: Test,
  tested: TestedStore,
  { large, times = 20 }: { large: number; times?: number }
): void {
  const { store, chunkSize, count, held, mayKeepPart = false } = tested

  t.test('files of all sizes come back', async (t) => {
    for (const length of [0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 3 * chunkSize]) {
      const id = await makeFile(tested, length)
      t.ok((await read(tested, id, 0, length)).equals(bytesOf(length)), `${length} bytes`)
      await t.rejects(read(tested, id, 0, length + 1), { code: 'CSV_EXPORT_FILE_INCOMPLETE' })
      await store.discard(id)
      t.equal(await count(id), 0)
    }
  })

  t.test('a large file comes back', (t) => largeFile(t, tested, large))

  t.test('chunks of any size are appended', async (t) => {
    const steps = [1, 0, chunkSize, 7, 2 * chunkSize + 3, 0, 100]
    const id = randomUUID()
    const writer = await store.create(id)
    let length = 0
    for (const step of steps) {
      await writer.append(bytesOf(length + step).subarray(length))
      length += step
    }
    await writer.seal()
    t.ok((await read(tested, id, 0, length)).equals(bytesOf(length)))
  })

  t.test('a source may use the memory of a chunk again', async (t) => {
    const id = randomUUID()
    const writer = await store.create(id)
    const chunk = Buffer.alloc(1_000)
    const length = chunkSize + 1_000
    for (let at = 0; at < length; at += chunk.length) {
      bytesOf(chunk.length, at).copy(chunk)
      await writer.append(chunk.subarray(0, length - at))
    }
    chunk.fill(0)
    await writer.seal()
    t.ok((await read(tested, id, 0, length)).equals(bytesOf(length)))
  })

  t.test('a part of a file comes from any border to any other', async (t) => {
    const length = 2 * chunkSize + 1_000
    const id = await makeFile(tested, length)
    const all = bytesOf(length)
    const borders = [131_072, 262_144, chunkSize, 2 * chunkSize].flatMap((at) => [at - 1, at, at + 1])
    const places = [0, 1, ...borders, length - 1, length]
    for (const [index, from] of places.entries()) {
      for (const to of [from, from + 1, places[index + 3] ?? length]) {
        if (to > length) continue
        t.ok((await read(tested, id, from, to)).equals(all.subarray(from, to)), `${from} to ${to}`)
      }
    }
  })

  t.test('what is not sealed, not there, or no id cannot be read', async (t) => {
    const id = randomUUID()
    const incomplete = { code: 'CSV_EXPORT_FILE_INCOMPLETE' }
    await t.rejects(read(tested, id, 0, 0), incomplete, 'not there')
    const writer = await store.create(id)
    await t.rejects(read(tested, id, 0, 0), incomplete, 'just begun')
    await append(writer, chunkSize)
    await t.rejects(read(tested, id, 0, 1), incomplete, 'half written')
    await writer.seal()
    await read(tested, id, 0, 1)
    await store.discard(id)
    await t.rejects(read(tested, id, 0, 1), incomplete, 'discarded')
    for (const no of ['', '.', '..', '../x', `../${id}`, `${id}/../x`, `${id}\0`, `/${id}`, '%2e%2e']) {
      await t.rejects(read(tested, no, 0, 0), `read ${no}`)
      await t.rejects(store.create(no), `create ${no}`)
      await t.rejects(store.discard(no), `discard ${no}`)
    }
  })

  t.test('all files are listed, the half written ones too, and nothing else', async (t) => {
    const sealed = await makeFile(tested, 10)
    const empty = randomUUID()
    await store.create(empty)
    const half = randomUUID()
    await append(await store.create(half), chunkSize)
    const ids = [sealed, empty, half]
    const listed = await collect(store.list())
    for (const id of ids) t.ok(listed.includes(id), id)
    for (const id of ids) await store.discard(id)
    for (const id of await collect(store.list())) t.notOk(ids.includes(id), 'discarded')
  })

  t.test('whose file is discarded writes nothing any more', async (t) => {
    for (const before of [0, 10, chunkSize, chunkSize + 10]) {
      for (const after of [0, 10, 2 * chunkSize]) {
        const id = randomUUID()
        const writer = await store.create(id)
        await append(writer, before)
        await store.discard(id)
        await t.rejects(
          writeOn(writer, after, before),
          { code: 'CSV_EXPORT_CLAIM_LOST' },
          `${before}, ${after}`
        )
        await t.rejects(writer.seal(), { code: 'CSV_EXPORT_CLAIM_LOST' })
        t.equal(await count(id), 0, 'nothing is left')
      }
    }
  })

  t.test('a file may be discarded twice, and by several', async (t) => {
    const id = await makeFile(tested, chunkSize + 1)
    await Promise.all([store.discard(id), store.discard(id)])
    await store.discard(id)
    await store.discard(randomUUID())
    t.equal(await count(id), 0)
  })

  t.test('a file discarded while it is written leaves nothing', async (t) => {
    for (let time = 0; time < times; time++) {
      const id = randomUUID()
      const writer = await store.create(id)
      const writing = append(writer, 4 * chunkSize, 0, chunkSize).then(() => writer.seal())
      // At another moment each time.
      for (let turn = 0; turn < time; turn++) await new Promise(setImmediate)
      const [written] = await Promise.allSettled([writing, store.discard(id)])
      if (written.status === 'rejected') t.equal(written.reason.code, 'CSV_EXPORT_CLAIM_LOST')
      if (mayKeepPart) t.ok((await count(id)) <= 1, 'at most the part that was under way is left')
      else t.equal(await count(id), 0, 'nothing is left')
      for await (const listed of store.list()) t.not(listed, id)
    }
  })

  t.test('a file discarded while it is sealed leaves nothing', async (t) => {
    for (let time = 0; time < times; time++) {
      const id = randomUUID()
      const writer = await store.create(id)
      await append(writer, 100)
      const sealing = writer.seal()
      for (let turn = 0; turn < time; turn++) await new Promise(setImmediate)
      await Promise.allSettled([sealing, store.discard(id)])
      t.equal(await count(id), 0, 'nothing is left')
    }
  })

  t.test('a slow reader holds nothing between two pieces', async (t) => {
    const length = 2 * chunkSize
    const id = await makeFile(tested, length)
    const readers = Array.from({ length: 50 }, () => iterate<Buffer>(store.read(id, 0, length)))
    for (let time = 0; time < 2; time++) {
      await Promise.all(readers.map((reader) => reader.next()))
      t.equal(await held(), 0)
    }
    await Promise.all(readers.map((reader) => reader.return()))
    t.equal(await held(), 0)
  })

  t.test('a reader that leaves at once releases everything', async (t) => {
    const id = await makeFile(tested, 2 * chunkSize)
    const unread = iterate<Buffer>(store.read(id, 0, 10))
    await unread.return()
    const reader = iterate<Buffer>(store.read(id, 0, 2 * chunkSize))
    const first = reader.next()
    await reader.return()
    await first
    t.equal(await held(), 0)
    t.ok((await reader.next()).done)
  })

  t.test('a file that goes away while it is read breaks its reader', async (t) => {
    const length = 2 * chunkSize
    const id = await makeFile(tested, length)
    const reader = iterate<Buffer>(store.read(id, 0, length))
    await reader.next()
    await store.discard(id)
    // Some have a part of the piece that was read.
    await t.rejects(drain(reader), { code: 'CSV_EXPORT_FILE_INCOMPLETE' })
    t.equal(await held(), 0)
  })
}

async function drain(reader: AsyncIterator<Buffer>): Promise<void> {
  while (!(await reader.next()).done);
}

/** @param length bytes; no more than a few pieces of it are in memory */
export async function largeFile(t: Test, { store }: TestedStore, length: number): Promise<void> {
  const id = randomUUID()
  const writer = await store.create(id)
  const written = createHash('sha256')
  for (let at = 0; at < length; at += 262_144) {
    const chunk = bytesOf(Math.min(262_144, length - at), at)
    written.update(chunk)
    await writer.append(chunk)
  }
  await writer.seal()
  const found = createHash('sha256')
  for await (const piece of store.read(id, 0, length)) found.update(piece)
  t.equal(found.digest('hex'), written.digest('hex'))
  await store.discard(id)
}

/** A store whose disk is too small: the append fails, nothing can be read, and the room is given back. */
export async function failsWhenFull(t: Test, tested: TestedStore, room: number): Promise<void> {
  const { store, count } = tested
  const id = randomUUID()
  const writer = await store.create(id)
  const error = await append(writer, 2 * room).then(
    () => undefined,
    (error) => error
  )
  t.ok(error, 'the append fails')
  t.not(error.code, 'CSV_EXPORT_CLAIM_LOST')
  t.comment(error.code, error.message)
  await t.rejects(read(tested, id, 0, 1), { code: 'CSV_EXPORT_FILE_INCOMPLETE' })
  await store.discard(id)
  t.equal(await count(id), 0, 'nothing is left')
}
