import { readdir, readFile } from 'node:fs/promises'
import { basename, dirname, join, normalize, sep } from 'node:path'
import t from 'tap'

/** Rooms, and those whose files theirs may import; each its own too. */
const directions: Record<string, string[]> = {
  'plugins/csv-export/csv': [
    'plugins/csv-export/csv/plain',
    'plugins/csv-export/receipts',
    'plugins/csv-export/options',
    'plugins/csv-export'
  ],
  'plugins/csv-export/csv/plain': [],
  'plugins/csv-export/options': ['plugins/csv-export/receipts', 'plugins/csv-export'],
  'plugins/csv-export/receipts': ['plugins/csv-export'],
  'plugins/csv-export/stream': [
    'plugins/csv-export/receipts',
    'plugins/csv-export/csv',
    'plugins/csv-export/options',
    'plugins/csv-export'
  ],
  'plugins/csv-export/connection': ['plugins/csv-export'],
  'plugins/csv-export/reply': [
    'plugins/csv-export/connection',
    'plugins/csv-export/stream',
    'plugins/csv-export/csv',
    'plugins/csv-export/options',
    'plugins/csv-export/receipts',
    'plugins/csv-export'
  ],
  'plugins/csv-export/probe': [
    'plugins/csv-export/reply',
    'plugins/csv-export/options',
    'plugins/csv-export'
  ],
  'plugins/csv-export/schema': ['plugins/csv-export/options', 'plugins/csv-export'],
  'plugins/probe': ['plugins/csv-export/probe'],
  'plugins/runs/table': ['plugins/pg', 'plugins/runs'],
  'plugins/runs/files': [
    'plugins/runs/table',
    'plugins/csv-export/options',
    'plugins/csv-export',
    'plugins/pg',
    'plugins/runs'
  ]
}
/** What every room may import of the plugin's own folder; the others there import the rooms. */
const common = ['errors', 'guard', 'describe'].map((name) => `plugins/csv-export/${name}.ts`)

const root = join(import.meta.dirname, '..')
const files = (await readdir(join(root, 'plugins'), { recursive: true }))
  .map((file) => join('plugins', file))
  // Folders alone are published.
  .filter((file) => file.endsWith('.ts') && file.split(sep).length > 2)

const imports = new Map<string, string[]>()
for (const file of files) {
  const text = await readFile(join(root, file), 'utf8')
  const found = [...text.matchAll(/^(?:import|export)\b[^'"]*?from '(\.[^']+)'/gms)].map(([, path]) =>
    normalize(join(dirname(file), path as string))
  )
  imports.set(file, found)
}

t.test('nothing in plugins/ imports out of it', async (t) => {
  for (const [file, paths] of imports) {
    for (const path of paths) t.ok(path.startsWith(`plugins${sep}`), `${file} imports ${path}`)
  }
})

t.test('rooms import one way', async (t) => {
  for (const [file, paths] of imports) {
    const room = dirname(file)
    const allowed = directions[room]
    for (const path of allowed === undefined ? [] : paths) {
      const other = dirname(path)
      const isRight =
        other === room ||
        (allowed?.includes(other) && (other !== 'plugins/csv-export' || common.includes(path)))
      t.ok(isRight, `${file} imports ${path}`)
    }
  }
})

t.test('no file imports itself by way of others', async (t) => {
  const done = new Set<string>()
  const circles: string[] = []
  const visit = (file: string, way: string[]): void => {
    if (way.includes(file)) circles.push([...way.slice(way.indexOf(file)), file].join(' > '))
    if (done.has(file) || way.includes(file)) return
    for (const path of imports.get(file) ?? []) visit(path, [...way, file])
    done.add(file)
  }
  for (const file of files) visit(file, [])
  t.same(circles, [])
})

t.test('every file is imported, so that its coverage counts', async (t) => {
  const imported = new Set([...imports.values()].flat())
  const isFace = (file: string) => ['index.ts', 'bin.ts'].includes(basename(file))
  const faces = new Set(files.filter((file) => file.split(sep).length === 3 && isFace(file)))
  t.same(
    files.filter((file) => !imported.has(file) && !faces.has(file)),
    []
  )
})

t.test('a room is seen at a glance', async (t) => {
  const counts = Map.groupBy(files, dirname)
  for (const [room, { length }] of counts) t.ok(length <= 13, `${room}: ${length} files`)
})

t.test('a logger, which may throw, is called in one place', async (t) => {
  for (const file of files) {
    const text = await readFile(join(root, file), 'utf8')
    const isCalled = /\blog(?:ger)?(?:\.(?:trace|debug|info|warn|error|fatal)\(|\[)/.test(text)
    t.equal(isCalled, file === join('plugins', 'csv-export', 'guard.ts'), file)
  }
})
