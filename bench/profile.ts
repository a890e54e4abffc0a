import type { Profiler } from 'node:inspector'
import { download, request } from './clients.ts'
import { ours } from './contestants.ts'
import { rows, startDatabase } from './postgres-rows.ts'
import { exportUrl, type Server, startNode } from './servers.ts'
import { fresh, longText, mixed, narrow, nonAscii, type Shape, wide } from './shapes.ts'

/** Where the server's time goes, as tables: for each row of a large export, and for each request of a small one. */

interface Subject {
  title: string
  env?: Record<string, string>
  /** @returns how many rows, or requests, there were */
  load(server: Server): Promise<number>
}

const usual = 'the usual pipeline'

await using database = await startDatabase()

function large(title: string, shape: Shape, way = ours): Subject {
  return {
    title,
    async load(server) {
      const downloads = 8
      for (let count = 0; count < downloads; count++) await download(exportUrl(server, way, shape))
      return downloads * shape.rows
    }
  }
}

/** A report out of PostgreSQL. */
function ofDatabase(title: string, path: string): Subject {
  return {
    title,
    env: { DATABASE_URL: database.url },
    async load({ url }) {
      const downloads = 4
      for (let count = 0; count < downloads; count++) await download(url + path)
      return downloads * rows
    }
  }
}

function small(way: string): Subject {
  return {
    title: way,
    // The half second before it measures is in the profile, too.
    load: async (server) => (await request(exportUrl(server, way, mixed, 10), 20, 4_000)).requests * (4.5 / 4)
  }
}

const tables: { unit: string; perSecond: number; subjects: Subject[] }[] = [
  {
    unit: 'ns a row',
    perSecond: 1e9,
    subjects: [
      large('mixed', mixed),
      large(`mixed, ${usual}`, mixed, usual),
      large('fresh strings', fresh),
      large(`fresh strings, ${usual}`, fresh, usual),
      large('narrow', narrow),
      large('wide', wide),
      large('long text', longText),
      large('non-ASCII', nonAscii),
      large('mixed in batches', mixed, 'reply.csv, rows in batches'),
      large("mixed, `formulas: 'escape'`", mixed, "reply.csv, formulas: 'escape'")
    ]
  },
  {
    unit: 'ns a row of PostgreSQL',
    perSecond: 1e9,
    subjects: [
      ofDatabase('a cursor', '/cursor'),
      ofDatabase('pg-query-stream, the usual pipeline', '/query-stream'),
      ofDatabase('COPY', '/copy')
    ]
  },
  {
    unit: 'µs a request of 10 rows',
    perSecond: 1e6,
    subjects: [small(ours), small(usual), small('stringify-sync and send()')]
  }
]

const reading = 'reading from PostgreSQL'

/** The first that fits, of a function's file or, of one without, its name. */
const kinds: [kind: string, place: RegExp][] = [
  ["the rows' own generator", /\/bench\/(shapes|ways)\.ts/],
  ['taking rows: promises, turns', /\/stream\/(chunks|source|turns)\.ts|runMicrotasks|processTicks/],
  [reading, /\/plugins\/pg\/|\/node_modules\/(pg|postgres)/],
  ['does a text need quotes', /\/csv\/plain-rows\.ts|RegExp: /],
  ['numbers and dates', /\/csv\/plain\/values\.ts/],
  ['csv-stringify', /\/csv-stringify\//],
  ['fields joined to rows', /\/csv\/|^made$/],
  ['a chunk made flat, and UTF-8', /\/stream\/joiner\.ts|node:buffer|node:internal\/buffer/],
  ['the export: receipt, limits, its end', /\/plugins\/csv-export\//],
  ['Fastify', /\/node_modules\//],
  ["the system's writes", /write(v|Utf8String|Latin1String|Buffer)/],
  ['garbage collection', /\(garbage collector\)/],
  ['Node: HTTP, streams, timers', /node:/],
  ['V8, and what has no name', /./]
]

type Node = Profiler.ProfileNode

function kindOf(node: Node, parents: ReadonlyMap<number, Node>): string | undefined {
  const { functionName, url, lineNumber } = node.callFrame
  if (functionName === '(idle)') return undefined
  // What Node has in C++ is part of what calls it, where it has no name; what the plugin has made of text has a line.
  const parent = parents.get(node.id)
  const kindOfParent = parent && kindOf(parent, parents)
  if (url === '' && functionName === '' && lineNumber < 0 && parent !== undefined) return kindOfParent
  // The driver makes texts of bytes.
  if (kindOfParent === reading && /^$|^node:(internal\/)?buffer/.test(url)) return reading
  const place = url || functionName || 'made'
  return kinds.find(([, fits]) => fits.test(place))?.[0]
}

/** Seconds in which it was not idle. */
function timesOf({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): Map<string, number> {
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const parents = new Map(
    nodes.flatMap((node) => (node.children ?? []).map((child) => [child, node] as const))
  )
  const times = new Map<string, number>()
  for (const [index, id] of samples.entries()) {
    const kind = kindOf(byId.get(id) as Node, parents)
    if (kind !== undefined) times.set(kind, (times.get(kind) ?? 0) + (timeDeltas[index] as number) / 1e6)
  }
  return times
}

async function profile({ load, env }: Subject): Promise<Map<string, number>> {
  await using server = await startNode('server.ts', [], env)
  await load(server)
  await fetch(`${server.url}/profile/start`)
  const count = await load(server)
  const response = await fetch(`${server.url}/profile/stop`)
  const times = timesOf((await response.json()) as Profiler.Profile)
  return new Map([...times].map(([kind, time]) => [kind, time / count]))
}

for (const { unit, perSecond, subjects } of tables) {
  const columns: Map<string, number>[] = []
  for (const subject of subjects) columns.push(await profile(subject))
  const line = (first: string, cells: string[]) => console.log(`| ${[first, ...cells].join(' | ')} |`)
  const figure = (seconds: number) => (seconds * perSecond).toFixed(0)
  line(
    unit,
    subjects.map(({ title }) => title)
  )
  line(
    '---',
    subjects.map(() => '---:')
  )
  for (const [kind] of kinds.filter(([kind]) => columns.some((times) => times.has(kind)))) {
    line(
      kind,
      columns.map((times) => figure(times.get(kind) ?? 0))
    )
  }
  line(
    'all',
    columns.map((times) => figure([...times.values()].reduce((sum, time) => sum + time, 0)))
  )
  console.log()
}
