import t from 'tap'
import { List } from '../../../../plugins/csv-export/reply/list.ts'

t.test('items stand in the order in which they came, until each is taken out', async (t) => {
  const list = new List<string>()
  const [removeA, removeB, removeC] = ['a', 'b', 'c'].map((item) => list.add(item)) as (() => void)[]
  t.same([...list], ['a', 'b', 'c'])
  removeB?.()
  removeB?.()
  t.same([...list], ['a', 'c'])
  t.equal(list.size, 2, 'taken out once')
  list.add('d')
  removeA?.()
  t.same([...list], ['c', 'd'])
  for (const item of list) if (item === 'c') removeC?.()
  t.same([...list], ['d'])
})

t.test('what is undefined may be in it', async (t) => {
  const list = new List<undefined>()
  const remove = list.add(undefined)
  t.equal([...list].length, 1)
  remove()
  t.equal(list.size, 0)
})
