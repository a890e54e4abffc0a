import { mock } from 'node:test'
import t from 'tap'
import { Pieces } from '../../../plugins/runs/files/pieces.ts'
import { KeptFile, type RunWithFile } from '../../../plugins/runs/routes/kept-file.ts'
import { gate, Log } from '../../helper.ts'
import { MemoryFiles } from './runs.ts'

const run = { id: 'a run', file_id: 'a file' } as RunWithFile

/** A reader of a file of 6 bytes, and how often it has said that it still reads. */
function openFile(read: () => AsyncIterable<Buffer>, answer: Promise<void> = Promise.resolve()) {
  const words: unknown[] = []
  const runs = {
    async keepForReader() {
      words.push(run.id)
      await answer
      return true
    }
  }
  const files = Object.assign(new MemoryFiles(), { read })
  return { file: new KeptFile(run, 0, 6, new Log() as never, { runs, files }), words }
}

async function* halves() {
  yield Buffer.from('abc')
  yield Buffer.from('def')
}

async function* broken() {
  yield Buffer.from('abc')
  throw new Error('the database is away')
}

t.beforeEach(() => mock.timers.enable({ apis: ['setInterval'] }))
t.afterEach(() => mock.timers.reset())

t.test('a file is kept while it is read, and no longer', async (t) => {
  const { file, words } = openFile(halves)
  for await (const chunk of file) t.equal(chunk.length, 3)
  mock.timers.tick(60_000)
  t.equal(words.length, 1, 'at its end')

  const failing = openFile(broken)
  await failing.file.next()
  mock.timers.tick(60_000)
  t.equal(failing.words.length, 2, 'in the midst of it')
  await t.rejects(failing.file.next(), { message: 'the database is away' })
  mock.timers.tick(60_000)
  t.equal(failing.words.length, 2, 'after an error: nobody returns what has failed')
})

t.test('a reader that leaves while its file is opened keeps it no longer', async (t) => {
  const kept = gate()
  const hung = gate()
  const { file, words } = openFile(async function* () {
    await hung.opened
    yield Buffer.from('abc')
  }, kept.opened)
  const next = file.next()
  const left = file.return()
  kept.open()
  // Whatever the store does.
  await new Promise(setImmediate)
  mock.timers.tick(60_000)
  t.equal(words.length, 1)
  hung.open()
  await Promise.all([next, left])
})

t.test('a reader that leaves while a piece is read is given none of it', async (t) => {
  const reading = gate()
  const answered = gate()
  const read = async (_from: number, _to: number, into: Buffer[]): Promise<void> => {
    reading.open()
    await answered.opened
    into.push(Buffer.from('abc'))
  }
  const pieces = new Pieces('a file', async () => ({ size: 6, read }), 0, 6, 3)
  const next = pieces.next()
  await reading.opened
  t.same(await pieces.return(), { done: true, value: undefined })
  answered.open()
  t.same(await next, { done: true, value: undefined })
  t.same(await pieces.next(), { done: true, value: undefined })
})
