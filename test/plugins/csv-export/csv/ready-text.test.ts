import assert from 'node:assert/strict'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import t from 'tap'
import { ChunkEncoder, EncodedRows } from '../../../../plugins/csv-export/csv/ready-text.ts'
import { curl, serve } from '../../../helper.ts'

const pair = '🌻'
const [high, low] = [pair.charAt(0), pair.charAt(1)]

function bytes(encoder: ChunkEncoder | EncodedRows, chunks: (string | Uint8Array)[]): Buffer {
  return Buffer.concat(
    [...chunks.map((chunk) => encoder.encode(chunk as any)), encoder.end()].map((part) =>
      Buffer.from(part as any)
    )
  )
}

t.test('bytes of another realm, such as a test runner’s, are bytes', (t) => {
  const chunk = runInNewContext('new Uint8Array([97, 10])')
  for (const encoder of [new ChunkEncoder(), new EncodedRows(false)]) {
    t.equal(bytes(encoder, [chunk, 'b']).toString(), 'a\nb')
  }
  t.end()
})

t.test('a pair cut between two chunks stays whole', async (t) => {
  const { url } = await serve(t, (app) => {
    async function* halves() {
      for (const half of [`a${high}`, '', low, high, `${low}${high}`]) {
        yield half
        await new Promise(setImmediate)
      }
      yield `${low}z`
    }
    app.get('/text', (_request, reply) => reply.streamText(halves()))
    app.get('/encoded', (_request, reply) => reply.csv(halves(), { encoded: true, header: false }))
  })
  for (const path of ['/text', '/encoded'])
    t.equal((await curl(url + path)).body, `a${pair}${pair}${pair}z`, path)
})

t.test('a half that stays alone is U+FFFD, in its place', async (t) => {
  for (const make of [() => new ChunkEncoder(), () => new EncodedRows(false)]) {
    t.equal(bytes(make(), [high]).toString(), '\ufffd')
    t.equal(bytes(make(), [high, 'x', low]).toString(), '\ufffdx\ufffd')
    t.equal(bytes(make(), [high, high, low]).toString(), `\ufffd${pair}`)
    t.equal(bytes(make(), [high, Buffer.from('é'), low]).toString(), '\ufffdé\ufffd')
  }
})

t.test('text cut anywhere is the same text, and its rows are counted the same', async (t) => {
  const text = fc.array(fc.constantFrom('a', '\n', '"', high, low, pair, '東')).map((parts) => parts.join(''))
  fc.assert(
    fc.property(text, fc.array(fc.nat(30)), (text, cuts) => {
      const at = [0, ...cuts.filter((cut) => cut < text.length).sort((a, b) => a - b), text.length]
      const chunks = at.slice(1).map((end, index) => text.slice(at[index], end))
      assert.deepEqual(bytes(new ChunkEncoder(), chunks), Buffer.from(text))
      const [cut, whole] = [new EncodedRows(false), new EncodedRows(false)]
      assert.deepEqual(bytes(cut, chunks), bytes(whole, [text]))
      assert.equal(cut.count, whole.count)
    }),
    { numRuns: 2000 }
  )
  t.pass()
})
