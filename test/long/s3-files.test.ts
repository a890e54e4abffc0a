import { randomUUID } from 'node:crypto'
import { S3, S3Client } from '@aws-sdk/client-s3'
import t, { type Test } from 'tap'
import { S3Files } from '../../plugins/runs/index.ts'
import { collect } from '../plugins/pg/pools.ts'
import { bytesOf, contract, failsWhenFull, type TestedStore } from '../plugins/runs/files/contract.ts'
import { skipSmallDisk, smallDisk } from '../plugins/runs/files/small-disk.ts'
import { startEmptyPostgres } from '../plugins/runs/runs.ts'
import { givesSameBytes } from '../plugins/runs/same-bytes.ts'
import { skipWithout } from '../programs.ts'
import { scaled, scaledTimeout } from './scale.ts'
import { type Swift, startSwift } from './swift.ts'

const skip =
  skipWithout('OpenStack Swift (swift-proxy)', 'swift-proxy-server', '--help') ||
  skipWithout('memcached', 'memcached', '--version')
const chunkSize = 8_388_608
t.setTimeout(scaledTimeout(300_000))

/** Each in a bucket of its own. */
async function open(
  t: Test,
  swift: Swift,
  bucket: string,
  prefix?: string
): Promise<TestedStore & { s3: S3 }> {
  const s3 = new S3(swift.s3)
  t.teardown(() => s3.destroy())
  await s3.createBucket({ Bucket: bucket })
  const store = new S3Files({ s3, bucket, ...(prefix === undefined ? {} : { prefix }) })
  await store.prepare()
  let held = 0
  s3.middlewareStack.add(
    (next) => async (args) => {
      held++
      try {
        return await next(args)
      } finally {
        held--
      }
    },
    { step: 'deserialize' }
  )
  return {
    store,
    s3,
    chunkSize,
    mayKeepPart: true,
    async count(id) {
      const all = await Promise.all([swift.names(bucket), swift.names(`${bucket}+segments`)])
      return all.flat().filter((name) => name.includes(id)).length
    },
    held: () => held
  }
}

t.test('files of runs in an S3 bucket', { skip }, async (t) => {
  const swift = await startSwift(t)

  t.test('as in each store', async (t) => {
    contract(t, await open(t, swift, 'contract'), { large: scaled(100 * 2 ** 20), times: scaled(20) })
  })

  t.test('a reply, a run and a script give the same bytes, under any options', async (t) => {
    const { store } = await open(t, swift, 'bytes')
    await givesSameBytes(t, { connectionString: await startEmptyPostgres(t), files: store })
  })

  t.test('more files than a page of a list has', async (t) => {
    const { store, s3 } = await open(t, swift, 'pages', '')
    s3.middlewareStack.add(
      (next) => (args) => {
        const input = { ...args.input, MaxKeys: 2, MaxUploads: 2 }
        return next({ ...args, input })
      },
      { step: 'initialize' }
    )
    await s3.putObject({ Bucket: 'pages', Key: 'of-somebody-else', Body: 'x' })
    const ids = Array.from({ length: 9 }, () => randomUUID())
    for (const [index, id] of ids.entries()) {
      const writer = await store.create(id)
      if (index % 2 === 0) await writer.seal()
    }
    t.same((await collect(store.list())).sort(), ids.sort())
    for await (const id of store.list()) await store.discard(id)
    t.same(await collect(store.list()), [])
    t.same(await swift.names('pages'), ['of-somebody-else'])
    t.same(await swift.names('pages+segments'), [])
  })

  t.test('an answer that is lost does not undo a file that is complete', async (t) => {
    const { store, s3 } = await open(t, swift, 'answers')
    let lost = 0
    s3.middlewareStack.add(
      (next, context) => async (args) => {
        const answer = await next(args)
        if (context.commandName !== 'CompleteMultipartUploadCommand' || lost++ > 0) return answer
        throw Object.assign(new Error('the connection was lost'), { code: 'ECONNRESET' })
      },
      { step: 'deserialize', priority: 'low' }
    )
    const id = randomUUID()
    const writer = await store.create(id)
    await writer.append(bytesOf(1_000))
    await writer.seal()
    t.ok(lost > 1, 'the client has tried twice')
    t.ok(Buffer.concat(await collect(store.read(id, 0, 1_000))).equals(bytesOf(1_000)))
  })

  t.test('a bucket that is not there, and a client of another kind, are told at once', async (t) => {
    const s3 = new S3(swift.s3)
    t.teardown(() => s3.destroy())
    await t.rejects(new S3Files({ s3, bucket: 'nowhere' }).prepare(), { name: 'NotFound' })
    const client = new S3Client(swift.s3) as unknown as S3
    t.throws(() => new S3Files({ s3: client, bucket: 'x' }), { code: 'CSV_EXPORT_INVALID_OPTION' })
  })
})

t.test('an S3 whose disk is full', { skip: skip || skipSmallDisk }, async (t) => {
  const room = 40 * 2 ** 20
  const swift = await startSwift(t, await smallDisk(t, room))
  await failsWhenFull(t, await open(t, swift, 'full'), room)
})
