/**
 * The rows that are exported. Their texts are made beforehand, but for one shape: what is measured is an export, not the
 * making of strings. V8 also keeps the texts of the numbers last printed, in a template too, from where they outlive young
 * garbage collections (docs/performance.md).
 */

export type Row = Record<string, unknown>

export interface Shape {
  name: string
  /** Enough of them for the usual pipeline to take about a second. */
  rows: number
  row(number: number): Row
}

const prepared = <T>(make: (number: number) => T): T[] => Array.from({ length: 1_000 }, (_, n) => make(n))
const day = 86_400_000
const start = Date.UTC(2026, 0, 1)

const customers = prepared((number) => ({
  name: `Customer ${number}`,
  email: `customer.${number}@example.com`
}))

/** Ten columns of the kinds that reports are made of. peers/ has the same rows in Go and in Python. */
export const mixed: Shape = {
  name: '10 mixed columns',
  rows: 250_000,
  row(number) {
    const customer = customers[number % 1_000]
    return {
      id: number,
      name: customer?.name,
      email: customer?.email,
      age: number % 90,
      price: (number % 100_000) * 1.01,
      active: number % 2 === 0,
      note: number % 10 === 0 ? 'quoted, because "special"' : 'nothing special about it',
      country: 'Österreich',
      created: new Date(start + number * 1000),
      closed: null
    }
  }
}

/**
 * As rows come from a driver: each text is a new string, so that whoever keeps the last ones finds none again. No dates,
 * which drivers can give as text. peers/ has the same rows in Go.
 */
export const fresh: Shape = {
  name: '10 mixed columns, fresh strings',
  rows: 250_000,
  row(number) {
    const customer = (number * 7_919) % 1_000_003
    return {
      id: number,
      reference: `SO-2026-${number}`,
      name: `Customer ${customer}`,
      email: `customer.${customer}@example.com`,
      age: number % 90,
      price: (number % 100_000) * 1.01,
      active: number % 2 === 0,
      note: number % 10 === 0 ? `quoted, because "special" ${number}` : `nothing special about ${number}`,
      city: `${10_000 + (number % 90_000)} Österreich`,
      closed: null
    }
  }
}

export const narrow: Shape = {
  name: '3 narrow columns',
  rows: 600_000,
  row: (number) => ({ id: number, code: customers[number % 1_000]?.name, count: number % 90 })
}

/** Made whole beforehand: making such a row would cost more than writing it. */
const wideRows = prepared((number) =>
  Object.fromEntries(
    Array.from({ length: 60 }, (_, column) => {
      const kinds = [number * column, `Text ${number % 50} of ${column}`, number / 8, column % 2 === 0, 'EUR']
      return [`column_${column}`, kinds[column % kinds.length]]
    })
  )
)

export const wide: Shape = {
  name: '60 wide columns',
  rows: 60_000,
  row: (number) => wideRows[number % 1_000] as Row
}

const sentence = 'The machine stopped in the night, and nobody could say why it had.\r\n'
const paragraphs = prepared(
  (number) => `Customer ${number}: "it stopped again".\n${sentence.repeat((number % 10) + 1)}`
)

export const longText: Shape = {
  name: 'long text, quotes and line breaks',
  rows: 120_000,
  row: (number) => ({
    id: number,
    subject: customers[number % 1_000]?.name,
    body: paragraphs[number % 1_000],
    answer: paragraphs[(number * 7) % 1_000],
    created: new Date(start + (number % 365) * day)
  })
}

const names = ['Ζωή Παπαδοπούλου', '山田 太郎', 'Łukasz Żółć', 'Сергей Иванов', 'مريم', 'Zoë 🌻 Straße']
const places = prepared((number) => `${names[number % names.length]}, № ${number}`)

export const nonAscii: Shape = {
  name: 'non-ASCII text',
  rows: 350_000,
  row: (number) => ({
    id: number,
    name: names[number % names.length],
    place: places[number % 1_000],
    city: '東京都千代田区',
    note: 'прочитано без замечаний'
  })
}

export const shapes: Shape[] = [mixed, fresh, narrow, wide, longText, nonAscii]

/** An async generator, as a report's usual source is one: a database's rows come asynchronously. */
export async function* generate(shape: Shape, count: number): AsyncGenerator<Row> {
  for (let number = 0; number < count; number++) yield shape.row(number)
}
