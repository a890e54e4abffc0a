import { parse } from 'csv-parse/sync'
import type pg from 'pg'
import type { Test } from 'tap'
import { copyRows, cursorRows, sql } from '../../../plugins/pg/index.ts'
import { seededRandom } from '../../long/random.ts'
import { collect } from './pools.ts'

/** One row with a column of each type, and types of its own. */
export const things = `
  CREATE TYPE mood AS ENUM ('sad', 'it''s "fine"', 'a\\b');
  CREATE DOMAIN small AS integer CHECK (value < 100);
  CREATE TYPE "Pair; x" AS (first integer, second text);
  CREATE TABLE things AS SELECT 'a'::text AS text, 'a'::varchar(5) AS varchar, 'a'::char(3) AS char, 'a'::"char" AS letter,
    1::smallint AS int2, 1 AS int4, 1::bigint AS int8, 1.5::numeric AS numeric, 1.5::real AS float4, 1.5::float8 AS float8,
    true AS bool, date '2024-02-29' AS date, timestamp '2024-02-29 12:00' AS timestamp, timestamptz '2024-02-29 12:00Z' AS timestamptz,
    time '12:00' AS time, interval '1 day' AS interval, '[1]'::jsonb AS jsonb, '\\x00'::bytea AS bytea,
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS uuid, ARRAY[1, NULL] AS numbers, ARRAY['a', NULL] AS texts,
    B'101'::bit(3) AS bit, '{"a": 1}'::json AS json, 'sad'::mood AS mood, 5::small AS small,
    ROW(1, 'x')::"Pair; x" AS pair, int4range(1, 5) AS range, 'a'::name AS name, inet '10.0.0.1' AS inet`

const columns = {
  texts: ['text', 'varchar', 'char', 'letter', 'name', 'mood'],
  numbers: ['int2', 'int4', 'int8', 'numeric', 'float4', 'float8', 'small', 'text'],
  booleans: ['bool', 'text'],
  times: ['date', 'timestamp', 'timestamptz', 'time', 'text'],
  bytes: ['bytea'],
  lists: ['numbers', 'texts', 'text'],
  objects: ['jsonb', 'text'],
  written: [
    'interval',
    'uuid',
    'bit',
    'pair',
    'range',
    'inet',
    'jsonb',
    'date',
    'timestamptz',
    'numbers',
    'bytea'
  ]
}
type Kind = keyof typeof columns
const types: Record<Kind, string[]> = {
  texts: ['text', 'varchar', 'varchar(3)', 'bpchar', 'char(4)', 'name', '"char"'],
  numbers: [
    'integer',
    'bigint',
    'numeric',
    'numeric(10, 2)',
    'real',
    'float8',
    'text',
    'oid',
    'small',
    'money'
  ],
  booleans: ['boolean', 'text'],
  times: ['date', 'timestamptz', 'timestamp(0)', 'time', 'timetz', 'text'],
  bytes: ['bytea'],
  lists: ['integer[]', 'text[]', 'varchar(2)[]', 'bpchar[]', 'jsonb', 'text'],
  objects: ['json', 'jsonb', 'text'],
  written: [
    'interval',
    'uuid',
    'bit',
    'varbit',
    'bit(3)',
    '"Pair; x"',
    'int4range',
    'inet',
    'json',
    'date',
    'bytea',
    'tsvector'
  ]
}
const written = [
  '1 day -02:00:00.5',
  'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
  '101',
  '(1,"a ""b"" \\\\ c")',
  '[1,5)',
  '10.0.0.0/8',
  '{"a":"\\u00e4"}',
  '0044-03-15 BC',
  'infinity',
  '{1,NULL,3}',
  '\\x00ff'
]
const hostile = [
  "'",
  "''",
  "\\'",
  '\\',
  "' OR 1=1 --",
  "'); DROP TABLE things; --",
  '"',
  '$1',
  '$$',
  '$a$',
  '/*',
  '*/',
  '--',
  '%',
  '%L',
  ';',
  '\n',
  '\r\n',
  '\t',
  ' ',
  '',
  'ä',
  '🦊',
  '\u2028',
  '\ud800',
  '\udfff',
  '\u0001',
  '\u007f',
  '{',
  '}',
  ',',
  '\\N',
  '\\.',
  'NULL',
  'a',
  'B',
  '0',
  '1e3',
  "E'",
  "U&'"
]

type Random = () => number

const pick = <T>(random: Random, items: readonly T[]): T => items[Math.floor(random() * items.length)] as T

function text(random: Random): string {
  const length = Math.floor(random() * 5)
  const pieces = Array.from({ length }, () => pick(random, hostile))
  return random() < 0.02 ? `${pieces.join('')}\0` : pieces.join('')
}

const number = (random: Random): number =>
  pick(random, [
    0,
    -0,
    1,
    -1,
    5,
    99,
    0.1,
    1 / 3,
    1e21,
    1e-7,
    2 ** 53,
    -(2 ** 31),
    Number.NaN,
    Number.POSITIVE_INFINITY,
    random() * 1e6
  ])

const values: Record<Kind, (random: Random) => unknown> = {
  texts: (random) => (random() < 0.2 ? pick(random, ['sad', 'a\\b', 'it\'s "fine"', 'a  ']) : text(random)),
  numbers: (random) =>
    random() < 0.3 ? pick(random, [0n, -5n, 2n ** 63n - 1n, 12345678901234567890n]) : number(random),
  booleans: (random) => random() < 0.5,
  times: (random) =>
    new Date(
      pick(random, [0, -62_198_755_200_000, 1_719_835_200_123, 253_402_300_800_000, -1, random() * 2e12])
    ),
  bytes: (random) => {
    const bytes = Buffer.from(text(random))
    return random() < 0.5 ? bytes : new Uint8Array(bytes)
  },
  lists: (random) =>
    Array.from({ length: Math.floor(random() * 4) }, () =>
      random() < 0.2 ? null : random() < 0.5 ? Math.floor(random() * 100) : text(random)
    ),
  objects: (random) => {
    const object = { [text(random)]: text(random), list: [number(random), null, true] }
    return random() < 0.2 ? { toPostgres: (prepare: (value: unknown) => unknown) => prepare(object) } : object
  },
  written: (random) => pick(random, written)
}

const kinds = Object.keys(values) as Kind[]

/** What stands before and after a value. */
function place(random: Random, kind: Kind): [string, string] {
  const type = pick(random, types[random() < 0.95 ? kind : pick(random, kinds)])
  const column = pick(random, columns[random() < 0.95 ? kind : pick(random, kinds)])
  return pick<[string, string]>(random, [
    ['', ''],
    ['', `::${type}`],
    ['CAST(', ` AS ${type})`],
    [`${column} = `, ''],
    [`${column} IS DISTINCT FROM `, ''],
    [`coalesce(${column}, `, ')'],
    [`nullif(${column}, `, ')'],
    [`CASE WHEN int4 = 1 THEN `, ` ELSE ${column} END`],
    [`ARRAY[${column}, `, ']'],
    [`${column} IN (`, ', NULL)'],
    ["'x' || ", " || 'y'"],
    [`${column} = ANY(`, ')'],
    ['upper(', '::text)'],
    ['octet_length(', '::text)'],
    [`(SELECT max(${column}) FROM things WHERE ${column} < `, ')'],
    ['jsonb_build_object(text, ', '::text)']
  ])
}

function statementOf(random: Random): ReturnType<typeof sql> {
  const count = 1 + Math.floor(random() * 4)
  const strings = ['SELECT ']
  const parameters: unknown[] = []
  for (let index = 0; index < count; index++) {
    const kind = pick(random, kinds)
    const [before, after] = place(random, kind)
    strings[index] += before
    strings.push(`${after} AS c${index}${index < count - 1 ? ', ' : ' FROM things'}`)
    const nothing = random()
    parameters.push(nothing < 0.04 ? null : nothing < 0.06 ? undefined : values[kind](random))
  }
  if (random() < 0.2) {
    strings[count] += ' WHERE text <> '
    strings.push('')
    parameters.push(text(random))
  }
  if (random() < 0.2) {
    strings[strings.length - 1] += ' LIMIT '
    strings.push('')
    parameters.push(pick(random, [0, 1, 2n, null, '1']))
  }
  return sql(Object.assign(strings, { raw: strings }) as unknown as TemplateStringsArray, ...parameters)
}

type Outcome = { cells: (string | null)[][] } | { code: unknown }

async function outcome(rows: Promise<(string | null)[][]>): Promise<Outcome> {
  return rows.then(
    (cells) => ({ cells }),
    (error) => ({ code: error.code })
  )
}

/** The cells of a COPY: what it does not quote, and is empty, is NULL. */
async function cellsOfCopy(chunks: Promise<Buffer[]>): Promise<(string | null)[][]> {
  return parse(Buffer.concat(await chunks), {
    from: 2,
    relax_column_count: true,
    record_delimiter: '\n',
    cast: (value: string, { quoting }: { quoting: boolean }) => (value === '' && !quoting ? null : value)
  } as object) as unknown as (string | null)[][]
}

/** Random parameters mean the same in a COPY as in a cursor, or are the same error. */
export async function checkParameters(
  t: Test,
  pool: pg.Pool,
  { sets, seed }: { sets: number; seed: number }
) {
  t.comment(`seeds ${seed} to ${seed + sets - 1}`)
  const counts: Record<string, number> = { same: 0 }
  for (let set = 0; set < sets; set++) {
    const statement = statementOf(seededRandom(seed + set))
    const byCursor = await outcome(collect(cursorRows(pool, statement)))
    const byCopy = await outcome(cellsOfCopy(collect(copyRows(pool, statement))))
    const kind = 'code' in byCursor ? String(byCursor.code) : 'same'
    counts[kind] = (counts[kind] ?? 0) + 1
    const isSame = JSON.stringify(byCopy) === JSON.stringify(byCursor)
    if (!isSame)
      t.strictSame(byCopy, byCursor, `seed ${seed + set}: ${statement.text} ${describe(statement.values)}`)
  }
  t.comment(JSON.stringify(counts))
  t.ok((counts.same as number) > sets / 4, 'many sets are no error')
}

function describe(parameters: readonly unknown[]): string {
  return JSON.stringify(parameters, (_key, value) => (typeof value === 'bigint' ? `${value}n` : value))
}
