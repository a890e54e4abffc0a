import type pg from 'pg'
import { cursorRows } from '../plugins/pg/index.ts'
import { defineReport, type Report } from '../plugins/runs/index.ts'
import { cargoColumns } from './cargoes.ts'

interface CargoQuery {
  commodity?: string
  origin?: string
  destination?: string
  minWeight?: number
  maxWeight?: number
  shippedAfter?: string
  shippedBefore?: string
  import?: number
  limit?: number
}

const filters: Record<Exclude<keyof CargoQuery, 'limit'>, (value: string) => string> = {
  commodity: (value) => `commodity = ${value}`,
  origin: (value) => `starts_with(origin, ${value})`,
  destination: (value) => `starts_with(destination, ${value})`,
  minWeight: (value) => `weight >= ${value}`,
  maxWeight: (value) => `weight <= ${value}`,
  shippedAfter: (value) => `shipped_at >= ${value}`,
  shippedBefore: (value) => `shipped_at < ${value}`,
  import: (value) => `import_id = ${value}`
}

// PostgreSQL's text cannot hold U+0000.
const text = { type: 'string', minLength: 1, maxLength: 200, pattern: '^[^\\u0000]*$' }
const weight = { type: 'number', minimum: 0, maximum: 1_000_000_000 }
const time = {
  type: 'string',
  pattern: '^(19|20|21)\\d\\d-',
  if: { maxLength: 10 },
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
  then: { format: 'date' },
  else: { format: 'date-time', pattern: '(Z|[+-](0\\d|1[0-4]):[0-5]\\d)$' }
}

const parameters = {
  type: 'object',
  additionalProperties: false,
  properties: {
    commodity: text,
    origin: text,
    destination: text,
    minWeight: weight,
    maxWeight: weight,
    shippedAfter: time,
    shippedBefore: time,
    import: { type: 'integer', minimum: 1, maximum: 2_147_483_647 },
    limit: { type: 'integer', minimum: 0, maximum: 1_000_000_000 }
  }
}

/** One definition for the download and for its runs. */
export function defineCargoReport(pool: pg.Pool): Report<CargoQuery> {
  return defineReport<CargoQuery>({
    name: 'cargoes',
    version: 1,
    parameters,
    rows: ({ parameters, signal }) => {
      const { text, values } = selectCargoes(parameters)
      return cursorRows(pool, text, values, { signal })
    },
    csv: { filename: 'cargoes.csv' }
  })
}

/** The statement of a report: what comes from the query goes into its parameters alone. */
export function selectCargoes(query: CargoQuery): { text: string; values: unknown[] } {
  const values: unknown[] = []
  const parameter = (value: unknown): string => `$${values.push(value)}`
  const conditions = Object.entries(filters)
    .filter(([name]) => query[name as keyof CargoQuery] !== undefined)
    .map(([name, condition]) => condition(parameter(query[name as keyof CargoQuery])))
  const where = conditions.length > 0 ? ` WHERE ${conditions.join(' AND ')}` : ''
  const limit = query.limit === undefined ? '' : ` LIMIT ${parameter(query.limit)}`
  return { text: `SELECT ${cargoColumns.join(', ')} FROM cargoes${where} ORDER BY id${limit}`, values }
}
