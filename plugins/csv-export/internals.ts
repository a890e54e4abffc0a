import type { FastifyReply } from 'fastify'
import type { CsvOptions, PluginOptions } from './options/options.ts'
import type { Bytes } from './options/row-types.ts'
import type { SourceInput } from './stream/source.ts'

/** Where the other plugins of this package find what is theirs alone. */
export const internals = Symbol('fastify-csv-export.internals')

export interface Internals {
  /** The defaults given at registration. */
  registered: PluginOptions
  sendFile(reply: FastifyReply, chunks: SourceInput<Bytes>, file: KeptFile): FastifyReply
}

export interface KeptFile {
  /** Options that it was made with. */
  csv: CsvOptions
  report: string
  /** What it is sent with, and no error in its place. */
  headers: Readonly<Record<string, string>>
  /** What its receipt says once all has been sent; 0 for a part, of which nobody knows. */
  rows: number
  /** Bytes. */
  length: number
}
