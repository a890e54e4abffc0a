import { createHash } from 'node:crypto'
import { type Agent, type IncomingMessage, request } from 'node:http'
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from 'node:zlib'

const decoders = { gzip: gunzipSync, br: brotliDecompressSync, zstd: zstdDecompressSync }

export type Coding = keyof typeof decoders

export interface DownloadOptions {
  /** Sent as the header `download-id`. */
  id: string
  url: string
  /** Whether it asks for trailers. */
  trailers: boolean
  /** The content coding that it takes; without one the body comes as it is. */
  coding?: Coding | undefined
  /** Where connections that are kept alive come from; without one the download has a connection of its own. */
  agent?: Agent | undefined
  /** What every download of this report begins with. */
  expected?: Buffer | undefined
  /** Called after each part that has come. */
  onPart?: (download: Download, part: Buffer) => void
}

/** A download as its client sees it, counted by the client itself. */
export class Download {
  status: number | undefined
  headers: IncomingMessage['headers'] = {}
  trailers: IncomingMessage['trailers'] = {}
  records = 0
  /** Of the body as it was sent. */
  bytes = 0
  /** Of the body before any coding; known of a coded one when it is whole. */
  decodedBytes = 0
  /** Whether the body came to its orderly end. */
  whole = false
  /** Whether every byte so far is the right one. */
  right = true
  readonly id: string
  /** When the connection, or the client's use of it, is over. */
  readonly over: Promise<void>
  readonly #expected: Buffer | undefined
  readonly #coded: Buffer[] = []
  readonly #hash = createHash('sha256')
  readonly #request
  #response: IncomingMessage | undefined
  #quoted = false

  constructor({ id, url, trailers, coding, agent, expected, onPart }: DownloadOptions) {
    this.id = id
    this.#expected = expected
    this.#request = request(url, {
      agent: agent ?? false,
      headers: {
        'download-id': id,
        ...(trailers ? { te: 'trailers' } : {}),
        ...(coding ? { 'accept-encoding': coding } : {})
      }
    })
    this.#request.on('error', () => {})
    this.#request.on('response', (response) => {
      this.#response = response
      this.status = response.statusCode
      this.headers = response.headers
      response.on('error', () => {})
      response.on('data', (part: Buffer) => {
        this.#take(part)
        onPart?.(this, part)
      })
      response.on('end', () => {
        this.whole = response.complete
        this.trailers = response.trailers
        if (this.whole) this.#decode()
      })
    })
    this.over = new Promise((resolve) => this.#request.on('close', resolve))
    this.#request.end()
  }

  get sha256(): Buffer {
    return this.#hash.copy().digest()
  }

  leave(): void {
    this.#request.destroy()
  }

  stopReading(): void {
    this.#response?.pause()
  }

  readOn(): void {
    this.#response?.resume()
  }

  #take(part: Buffer): void {
    this.bytes += part.length
    this.#hash.update(part)
    if (this.headers['content-encoding'] === undefined) this.#check(part)
    else this.#coded.push(part)
  }

  #decode(): void {
    const coding = this.headers['content-encoding'] as Coding | undefined
    if (coding !== undefined) this.#check(decoders[coding](Buffer.concat(this.#coded)))
  }

  /** @param part of the body as it was before any coding */
  #check(part: Buffer): void {
    if (this.status === 200 && this.#expected !== undefined) {
      const begin = this.decodedBytes
      this.right &&= part.equals(this.#expected.subarray(begin, begin + part.length))
    }
    this.decodedBytes += part.length
    for (const byte of part) {
      if (byte === 0x22) this.#quoted = !this.#quoted
      else if (byte === 0x0a && !this.#quoted) this.records++
    }
  }
}
