import { type FileHandle, mkdir, open, opendir, rename, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { CSV_EXPORT_CLAIM_LOST } from '../errors.ts'
import { checkFileId, isFileId } from './file-id.ts'
import type { FileStore, FileWriter } from './files.ts'
import { gather } from './gather.ts'
import { Pieces, type SealedFile } from './pieces.ts'

export interface DirectoryFilesOptions {
  /**
   * Made when it is missing, for its owner alone. All processes of the runs must see the same one: on several hosts, a shared
   * volume. Nothing else may write in it.
   */
  folder: string
}

/** Bytes of a write. */
const chunkSize = 1_048_576
/** Bytes that a slow download holds in memory. */
const pieceSize = 131_072
/** Ends the name of a file that is not sealed. */
const partial = '.partial'

/**
 * Files of runs as files of a folder. One that is under way has a temporary name; sealed, it is synced and renamed, and its
 * folder synced: what can be read survives a crash of the machine. No file stays open between two writes, nor between two
 * pieces of a read.
 * @example
 * app.register(csvRuns, { files: new DirectoryFiles({ folder: '/var/lib/exports' }), ...options })
 */
export class DirectoryFiles implements FileStore {
  readonly #folder: string

  constructor({ folder }: DirectoryFilesOptions) {
    this.#folder = resolve(folder)
  }

  /** @throws the error of the file system, if the folder cannot be made */
  async prepare(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
  }

  async create(id: string): Promise<FileWriter> {
    const path = this.#path(id)
    await withFile(path + partial, 'wx', async () => {})
    return gather(chunkSize, {
      write: (data, start) => writeAt(path + partial, data, start),
      seal: async (data, start) => {
        await writeAt(path + partial, data, start, true)
        await rename(path + partial, path).catch(throwLost)
        await syncFolder(this.#folder)
      }
    })
  }

  read(id: string, from: number, to: number): AsyncIterable<Buffer> {
    const path = this.#path(id)
    const open = async (): Promise<SealedFile> => ({
      size: (await stat(path).catch(ignoreMissing))?.size,
      read: (at, end, into) => readAt(path, at, end - at, into).catch(ignoreMissing)
    })
    return new Pieces(id, open, from, to, pieceSize)
  }

  async discard(id: string): Promise<void> {
    const path = this.#path(id)
    // In this order: one that is sealed in between has the other name by then.
    await rm(path + partial, { force: true })
    await rm(path, { force: true })
  }

  async *list(): AsyncGenerator<string> {
    for await (const { name } of await opendir(this.#folder)) {
      const id = name.endsWith(partial) ? name.slice(0, -partial.length) : name
      if (isFileId(id)) yield id
    }
  }

  /** Never out of the folder. */
  #path(id: string): string {
    return join(this.#folder, checkFileId(id))
  }
}

/** Opened anew each time, and never made: whose file was removed writes nothing. */
async function writeAt(path: string, data: Buffer, start: number, isLast = false): Promise<void> {
  const write = async (file: FileHandle): Promise<void> => {
    for (let at = 0; at < data.length; ) {
      at += (await file.write(data, at, data.length - at, start + at)).bytesWritten
    }
    if (isLast) await file.sync()
  }
  await withFile(path, 'r+', write).catch(throwLost)
}

async function readAt(path: string, start: number, length: number, into: Buffer[]): Promise<void> {
  await withFile(path, 'r', async (file) => {
    const bytes = Buffer.allocUnsafeSlow(length)
    const { bytesRead } = await file.read(bytes, 0, length, start)
    into.push(bytes.subarray(0, bytesRead))
  })
}

/** A new name is safe when its folder is. */
async function syncFolder(folder: string): Promise<void> {
  await withFile(folder, 'r', (file) => file.sync())
}

async function withFile<T>(path: string, flags: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, flags)
  try {
    return await use(file)
  } finally {
    // A network's file system may say only here that it could not write.
    await file.close()
  }
}

function throwLost(error: unknown): never {
  throw isMissing(error) ? new CSV_EXPORT_CLAIM_LOST() : error
}

function ignoreMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}
