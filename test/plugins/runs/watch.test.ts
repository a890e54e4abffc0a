import t from 'tap'
import type { RunRow } from '../../../plugins/runs/table/runs.ts'
import { RunWatch } from '../../../plugins/runs/watch.ts'

const run = { id: 'a', state: 'queued', file_id: null } as RunRow

/** A table of runs whose answers come when the test says so. */
function slowRuns() {
  const looks: { ids: readonly string[]; answer: (runs: RunRow[]) => void; fail: (error: Error) => void }[] =
    []
  let onLook: (() => void) | undefined
  const runs = {
    lookAt: (ids: readonly string[]) =>
      new Promise<RunRow[]>((answer, fail) => {
        looks.push({ ids, answer, fail })
        onLook?.()
      })
  }
  async function nextLook() {
    if (looks.length === 0) {
      await new Promise<void>((resolve) => {
        onLook = resolve
      })
    }
    return looks.shift() as (typeof looks)[number]
  }
  return { runs, nextLook }
}

t.test('an answer that was under way before is no news: it may be older than a claim', async (t) => {
  const { runs, nextLook } = slowRuns()
  const watch = new RunWatch(runs, 1, (error) => t.fail(String(error)))
  const heard: string[] = []
  watch.watch('a', () => heard.push('before'))
  const leave = watch.watch('a', () => heard.push('left'))
  const look = await nextLook()
  watch.watch('a', () => heard.push('after'))
  leave()
  look.answer([run])
  const next = await nextLook()
  t.same(heard, ['before'])
  next.answer([])
  await nextLook()
  t.same(heard, ['before', 'before', 'after'])
})

t.test('one look is for all, is tried again where it failed, and rests when nobody waits', async (t) => {
  const { runs, nextLook } = slowRuns()
  const errors: unknown[] = []
  const watch = new RunWatch(runs, 1, (error) => errors.push(error))
  const heard: unknown[] = []
  const leave = ['a', 'b', 'b'].map((id) => watch.watch(id, (run) => heard.push(run)))
  const failing = await nextLook()
  t.same(failing.ids, ['a', 'b'])
  failing.fail(new Error('the database is away'))
  const look = await nextLook()
  t.match(errors, [{ message: 'the database is away' }])
  look.answer([run])
  const last = await nextLook()
  t.same(heard, [run, undefined, undefined])
  for (const stop of leave) stop()
  watch.tell(run)
  last.answer([])
  await new Promise((resolve) => setTimeout(resolve, 20))
  watch.watch('c', () => {})
  t.same((await nextLook()).ids, ['c'], 'and begins again')
})

t.test('there is no look when nobody waits any more: the pool may be closed by then', async (t) => {
  const { runs, nextLook } = slowRuns()
  const watch = new RunWatch(runs, 1, (error) => t.fail(String(error)))
  watch.watch('a', () => {})()
  await new Promise((resolve) => setTimeout(resolve, 20))
  watch.watch('b', () => {})
  t.same((await nextLook()).ids, ['b'])
})
