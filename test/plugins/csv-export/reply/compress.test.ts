import { Readable, Transform } from 'node:stream'
import t from 'tap'
import { compress } from '../../../../plugins/csv-export/reply/compress.ts'

async function* chunks() {
  yield Buffer.from('a')
  yield Buffer.from('b')
}

/** As zlib's streams do where memory is short: some tell a callback too, some an event alone. */
const failures: Record<string, (stream: Transform, callback: (error: Error) => void) => void> = {
  'its callback': (_stream, callback) => callback(new Error('no memory')),
  'its event': (stream) => stream.destroy(new Error('no memory'))
}

for (const [name, fail] of Object.entries(failures)) {
  t.test(`a coder that fails fails the body, as ${name} tells`, async (t) => {
    const stream = new Transform({
      transform(_chunk, _encoding, callback) {
        fail(this, callback)
      }
    })
    const coded = compress(chunks(), {
      smallest: 1,
      open: () => ({ coding: 'gzip', stream, flush: () => {} })
    })
    await t.rejects(Readable.from(coded).toArray(), { message: 'no memory' })
    t.ok(stream.destroyed)
  })
}
