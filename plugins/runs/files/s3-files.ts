import { refusal } from '../../csv-export/options/option.ts'
import { CSV_EXPORT_CLAIM_LOST } from '../errors.ts'
import { checkFileId, isFileId } from './file-id.ts'
import type { FileStore, FileWriter } from './files.ts'
import { gather } from './gather.ts'
import { Pieces, type SealedFile } from './pieces.ts'

interface Place {
  Bucket: string
  Key: string
}
interface Upload extends Place {
  UploadId: string | undefined
}
interface Part {
  PartNumber: number
  ETag: string | undefined
}
interface Page {
  Bucket: string
  Prefix: string
}
type Listed = { Key?: string | undefined }[] | undefined

/** What is used of an `S3` of @aws-sdk/client-s3: without that package, there are no types of it either. */
export interface S3Api {
  createMultipartUpload(place: Place): Promise<{ UploadId?: string | undefined }>
  uploadPart(part: Upload & { PartNumber: number; Body: Uint8Array }): Promise<{ ETag?: string | undefined }>
  completeMultipartUpload(upload: Upload & { MultipartUpload: { Parts: Part[] } }): Promise<unknown>
  abortMultipartUpload(upload: Upload): Promise<unknown>
  headObject(place: Place): Promise<{ ContentLength?: number | undefined }>
  getObject(
    place: Place & { Range: string }
  ): Promise<{ Body?: { transformToByteArray(): Promise<Uint8Array> } | undefined }>
  deleteObject(place: Place): Promise<unknown>
  headBucket(bucket: { Bucket: string }): Promise<unknown>
  listObjectsV2(
    page: Page & { ContinuationToken?: string }
  ): Promise<{ Contents?: Listed; NextContinuationToken?: string | undefined }>
  listMultipartUploads(page: Page & { KeyMarker?: string; UploadIdMarker?: string }): Promise<{
    Uploads?: { Key?: string | undefined; UploadId?: string | undefined }[] | undefined
    IsTruncated?: boolean | undefined
    NextKeyMarker?: string | undefined
    NextUploadIdMarker?: string | undefined
  }>
}

export interface S3FilesOptions {
  /** An `S3` of @aws-sdk/client-s3, of version 3, with its region, credentials and retries; it is not closed here. */
  s3: S3Api
  /** Must be there. */
  bucket: string
  /** Begins the key of each file; nothing else may begin with it. @default 'csv-export/' */
  prefix?: string
}

/** Bytes; S3 takes 10,000 parts, none but the last one below 5 MiB. */
const partSize = 8_388_608
/** Bytes that a slow download holds in memory; each piece is a request. */
const pieceSize = 262_144

/**
 * Files of runs as objects of an S3 bucket, of at most 78 GiB. One that is under way is a multipart upload, however small it
 * is: it can be aborted, so that an attempt that has lost its run leaves nothing. Eight MiB of memory for each of them.
 * Needs these permissions: s3:PutObject, s3:GetObject, s3:DeleteObject, s3:AbortMultipartUpload, s3:ListBucket,
 * s3:ListBucketMultipartUploads.
 * @throws CSV_EXPORT_INVALID_OPTION
 * @example
 * import { S3 } from '@aws-sdk/client-s3'
 * const files = new S3Files({ s3: new S3({ region: 'eu-central-1' }), bucket: 'reports' })
 * app.register(csvRuns, { files, ...options })
 */
export class S3Files implements FileStore {
  readonly #s3: S3Api
  readonly #bucket: string
  readonly #prefix: string

  constructor({ s3, bucket, prefix = 'csv-export/' }: S3FilesOptions) {
    if (typeof s3?.createMultipartUpload !== 'function') {
      throw refusal('s3', 'an S3 of @aws-sdk/client-s3, not an S3Client', s3)
    }
    this.#s3 = s3
    this.#bucket = bucket
    this.#prefix = prefix
  }

  /** @throws the error of the S3 client, if the bucket cannot be reached */
  async prepare(): Promise<void> {
    await this.#s3.headBucket({ Bucket: this.#bucket })
  }

  async create(id: string): Promise<FileWriter> {
    const place = this.#place(id)
    const { UploadId } = await this.#s3.createMultipartUpload(place)
    const upload = { ...place, UploadId }
    const parts: Part[] = []
    const write = async (Body: Buffer): Promise<void> => {
      const PartNumber = parts.length + 1
      const { ETag } = await this.#s3.uploadPart({ ...upload, PartNumber, Body }).catch(throwLost)
      parts.push({ PartNumber, ETag })
    }
    return gather(partSize, {
      write,
      seal: async (data, start) => {
        // There is no upload of no parts.
        if (data.length > 0 || start === 0) await write(data)
        await this.#complete(upload, parts, start + data.length)
      }
    })
  }

  /** The client may have tried twice: that the upload is no longer there can also mean that it is complete. */
  async #complete(upload: Upload, Parts: Part[], size: number): Promise<void> {
    try {
      await this.#s3.completeMultipartUpload({ ...upload, MultipartUpload: { Parts } })
    } catch (error) {
      const { Bucket, Key } = upload
      if (!isMissing(error) || (await this.#sizeOf({ Bucket, Key })) !== size) throwLost(error)
    }
  }

  read(id: string, from: number, to: number): AsyncIterable<Buffer> {
    const place = this.#place(id)
    const open = async (): Promise<SealedFile> => ({
      size: await this.#sizeOf(place),
      read: async (at, end, into) => {
        const part = { ...place, Range: `bytes=${at}-${end - 1}` }
        const object = await this.#s3.getObject(part).catch(ignoreMissing)
        const bytes = await object?.Body?.transformToByteArray()
        if (bytes !== undefined) into.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
      }
    })
    return new Pieces(id, open, from, to, pieceSize)
  }

  async discard(id: string): Promise<void> {
    const place = this.#place(id)
    // In this order: one that is complete in between is an object by then.
    for await (const { Key, UploadId } of this.#uploads(place.Key)) {
      if (Key !== place.Key) continue
      await this.#s3.abortMultipartUpload({ ...place, UploadId }).catch(ignoreMissing)
    }
    await this.#s3.deleteObject(place).catch(ignoreMissing)
  }

  async *list(): AsyncGenerator<string> {
    for await (const { Key = '' } of this.#uploads(this.#prefix)) yield* this.#idOf(Key)
    for await (const { Key = '' } of this.#objects()) yield* this.#idOf(Key)
  }

  async *#uploads(
    Prefix: string
  ): AsyncGenerator<{ Key?: string | undefined; UploadId?: string | undefined }> {
    let next = {}
    for (;;) {
      const page = await this.#s3.listMultipartUploads({ Bucket: this.#bucket, Prefix, ...next })
      yield* page.Uploads ?? []
      if (!page.IsTruncated) return
      next = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker }
    }
  }

  async *#objects(): AsyncGenerator<{ Key?: string | undefined }> {
    let next = {}
    for (;;) {
      const page = await this.#s3.listObjectsV2({ Bucket: this.#bucket, Prefix: this.#prefix, ...next })
      yield* page.Contents ?? []
      if (page.NextContinuationToken === undefined) return
      next = { ContinuationToken: page.NextContinuationToken }
    }
  }

  *#idOf(key: string): Generator<string> {
    const id = key.slice(this.#prefix.length)
    if (isFileId(id)) yield id
  }

  async #sizeOf(place: Place): Promise<number | undefined> {
    return (await this.#s3.headObject(place).catch(ignoreMissing))?.ContentLength
  }

  #place(id: string): Place {
    return { Bucket: this.#bucket, Key: this.#prefix + checkFileId(id) }
  }
}

function throwLost(error: unknown): never {
  throw isMissing(error) ? new CSV_EXPORT_CLAIM_LOST() : error
}

function ignoreMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error
}

/** HEAD has no body to say more. */
function isMissing(error: unknown): boolean {
  return ['NoSuchUpload', 'NoSuchKey', 'NotFound'].includes((error as Error).name)
}
