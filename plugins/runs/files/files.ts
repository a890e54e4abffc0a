/** Where the files of runs are kept. Each is written once, by one attempt of one run, under an id of its own. */
export interface FileStore {
  /** Called once, before anything else. */
  prepare?(): Promise<void>
  /** Opens a new file. */
  create(id: string): Promise<FileWriter>
  /**
   * The bytes from `from` to before `to` of a sealed file, in pieces of at most 256 KiB, each read when it is asked for: the
   * reader may be slow. Throws where there are fewer.
   */
  read(id: string, from: number, to: number): AsyncIterable<Buffer>
  /** Removes a file, sealed, half written or not there. Whoever still writes it fails. */
  discard(id: string): Promise<void>
  /** The ids of all files, half written ones too. */
  list(): AsyncIterable<string>
  /** Called now and then: gives back what room is left of removed files. */
  sweep?(): Promise<void>
}

export interface FileWriter {
  /** Resolves when the next chunk may come, maybe in the same memory: what is kept of this one is a copy. */
  append(chunk: Buffer): Promise<void>
  /** Resolves when the whole file would survive a crash; only then can it be read. */
  seal(): Promise<void>
}
