import { EventEmitter, once } from 'node:events'
import pg from 'pg'
import type { Test } from 'tap'
import { type KeysetPage, keysetPages } from '../../../../plugins/csv-export/index.ts'
import { seededRandom } from '../../../long/random.ts'

/** A table whose rows come and go, but for those that stand still: of them only the note changes. */
const table = `CREATE TABLE changing (
  id bigint PRIMARY KEY, tie timestamptz NOT NULL, name text NOT NULL UNIQUE, still boolean NOT NULL, note integer NOT NULL
)`
/** Ids above 2^53, few ties of microseconds, and names that each collation orders in its own way. */
const insert = `INSERT INTO changing
  SELECT 9007199254740993 + n, timestamptz '2024-07-01 12:00:00Z' + n % 7 * interval '100 microseconds',
    (ARRAY['a', 'B', 'ä', '-', 'ab', 'A', '10', '9'])[1 + n % 8] || n, $2, 0
  FROM unnest($1::integer[]) n ON CONFLICT DO NOTHING`

const byNumber = `CREATE COLLATION IF NOT EXISTS by_number (provider = icu, locale = 'en-u-kn-true')`

interface Way {
  key: string | string[]
  bound: string
  /** $1 to $n are after, the next as many are upTo, and the last is the limit. */
  page: string
}

const columns = 'id, tie::text AS tie, name, still, note'
const ways: Record<string, Way> = {
  'a bigint': {
    key: 'id',
    bound: 'SELECT max(id) FROM changing HAVING max(id) IS NOT NULL',
    page: `SELECT ${columns} FROM changing WHERE ($1::bigint IS NULL OR id > $1) AND id <= $2 ORDER BY id LIMIT $3`
  },
  'a bigint, descending': {
    key: 'id',
    bound: 'SELECT id FROM changing ORDER BY id LIMIT 1',
    page: `SELECT ${columns} FROM changing WHERE ($1::bigint IS NULL OR id < $1) AND id >= $2 ORDER BY id DESC LIMIT $3`
  },
  ties: {
    key: ['tie', 'id'],
    bound: 'SELECT tie::text, id FROM changing ORDER BY changing.tie DESC, id DESC LIMIT 1',
    page: `SELECT ${columns} FROM changing
      WHERE ($1::timestamptz IS NULL OR (changing.tie, id) > ($1, $2::bigint)) AND (changing.tie, id) <= ($3, $4)
      ORDER BY changing.tie, id LIMIT $5`
  },
  'ties, descending': {
    key: ['tie', 'id'],
    bound: 'SELECT tie::text, id FROM changing ORDER BY changing.tie, id LIMIT 1',
    page: `SELECT ${columns} FROM changing
      WHERE ($1::timestamptz IS NULL OR (changing.tie, id) < ($1, $2::bigint)) AND (changing.tie, id) >= ($3, $4)
      ORDER BY changing.tie DESC, id DESC LIMIT $5`
  },
  ...Object.fromEntries(
    ['"C"', '"und-x-icu"', 'by_number'].map((collation) => [
      `texts in the order of ${collation}`,
      {
        key: 'name',
        bound: `SELECT name FROM changing ORDER BY name COLLATE ${collation} DESC LIMIT 1`,
        page: `SELECT ${columns} FROM changing WHERE ($1::text IS NULL OR name > $1 COLLATE ${collation})
          AND name <= $2 COLLATE ${collation} ORDER BY name COLLATE ${collation} LIMIT $3`
      }
    ])
  )
}

interface Row {
  id: string
  tie: string
  name: string
  still: boolean
}

/**
 * Reads tables page by page while others insert, delete and update: each row that stands still comes once, no row twice.
 * @param seed of the first round, the next has the next one
 */
export async function checkPages(t: Test, url: string, { rounds, seed }: { rounds: number; seed: number }) {
  const pool = new pg.Pool({ connectionString: url, max: 6, application_name: 'fastify-csv-export' })
  t.teardown(() => pool.end())
  await pool.query(byNumber)
  await pool.query(table)
  t.comment(`seeds ${seed} to ${seed + rounds - 1}`)
  const counts = { rows: 0, pages: 0, changes: 0, short: 0 }
  for (let round = 0; round < rounds; round++) await checkRound(t, pool, seed + round, counts)
  t.comment(JSON.stringify(counts))
  await pool.query('DROP TABLE changing')
}

type Counts = Record<'rows' | 'pages' | 'changes' | 'short', number>

async function checkRound(t: Test, pool: pg.Pool, seed: number, counts: Counts): Promise<void> {
  const random = seededRandom(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  const numbers = (count: number, parity: number) =>
    Array.from({ length: count }, () => 2 * below(1_000) + parity)
  await pool.query('TRUNCATE changing')
  // Even ones stand still, odd ones do not.
  await pool.query(insert, [numbers(below(150), 0), true])
  await pool.query(insert, [numbers(below(150), 1), false])
  const { rows: still } = await pool.query('SELECT id FROM changing WHERE still')

  const changes = new EventEmitter().setMaxListeners(0)
  let isOver = false
  const change = async (): Promise<void> => {
    while (!isOver) {
      const statements: [string, unknown[]][] = [
        [insert, [numbers(5, 1), false]],
        ['DELETE FROM changing WHERE NOT still AND id % 16 = $1', [below(16)]],
        ['UPDATE changing SET note = note + 1 WHERE id % 3 = $1', [below(3)]]
      ]
      const [text, values] = statements[below(3)] as [string, unknown[]]
      await pool.query(text, values).catch(unlessDeadlock)
      counts.changes++
      changes.emit('change')
    }
  }
  const changers = Promise.all([change(), change(), change()])

  const names = Object.keys(ways)
  const name = names[below(names.length)] as string
  const { key, bound, page } = ways[name] as Way
  const limit = 1 + below(below(2) === 0 ? 10 : 100)
  const parts = (value: unknown): unknown[] =>
    typeof key === 'string' ? [value] : ((value as unknown[]) ?? [null, null])
  const ask = async ({ after, upTo, limit }: Omit<KeysetPage, 'signal'>): Promise<Row[]> =>
    (await pool.query(page, [...parts(after), ...parts(upTo), limit])).rows
  /** As a library does that asks for the keys first: some rows go before they are fetched. */
  const askTwice = async (request: Omit<KeysetPage, 'signal'>): Promise<Row[]> => {
    const keys = await ask(request)
    for (let count = below(4); count > 0; count--) await once(changes, 'change')
    const { rows } = await pool.query('SELECT id FROM changing WHERE id = ANY($1)', [
      keys.map(({ id }) => id)
    ])
    const there = new Set(rows.map(({ id }) => id))
    const found = keys.filter(({ id }) => there.has(id))
    const last = keys.at(-1) as Row
    const after = typeof key === 'string' ? last?.[key as keyof Row] : [last?.tie, last?.id]
    return found.length > 0 || keys.length === 0 ? found : askTwice({ ...request, after })
  }
  const inSteps = below(3) === 0
  const rows = keysetPages(
    async (request) => {
      if (below(2) === 0) await once(changes, 'change')
      const rows = await (inSteps ? askTwice : ask)(request)
      counts.pages++
      if (rows.length > 0 && rows.length < limit) counts.short++
      return rows
    },
    {
      key: key as keyof Row | (keyof Row)[],
      bound: async () => {
        const [row] = (await pool.query({ text: bound, rowMode: 'array' })).rows
        return typeof key === 'string' ? row?.[0] : row
      },
      limit
    }
  )
  const times = new Map<string, number>()
  try {
    for await (const { id } of rows) times.set(id, (times.get(id) ?? 0) + 1)
  } finally {
    isOver = true
    await changers
  }
  counts.rows += times.size
  const lost = still.filter(({ id }) => !times.has(id))
  const doubled = [...times].filter(([, count]) => count > 1)
  const way = `by ${name}, ${limit} at a time${inSteps ? ', in two steps' : ''}`
  if (lost.length + doubled.length > 0)
    t.strictSame({ lost, doubled }, { lost: [], doubled: [] }, `seed ${seed}: ${way}`)
}

/** Those who change rows wait for each other, too. */
function unlessDeadlock(error: { code?: string }): void {
  if (error.code !== '40P01') throw error
}
