import Fastify from 'fastify'
import csvExport, { toCsv } from '../plugins/csv-export/index.ts' // yours: from 'fastify-csv-export'

export const app = Fastify()
await app.register(csvExport)

app.get('/null.csv', (_request, reply) => {
  const rows = [
    { id: 1, note: null },
    { id: 2, note: '' },
    { id: 3, note: '\\N' }
  ]
  const none = () => '\\N'
  return reply.csv(rows, {
    cast: {
      null: none,
      undefined: none,
      string: (text) => (text === '\\N' ? { value: text, quoted: true } : text)
    }
  })
})

app.get('/default.csv', (_request, reply) => {
  const rows = [{ id: 1, phone: '123' }, { id: 2, phone: null }, { id: 3 }]
  const none = () => 'n/a'
  return reply.csv(rows, { cast: { null: none, undefined: none } })
})

app.get('/quoted-column.csv', (_request, reply) => {
  const rows = [
    { zip: '01067', city: 'Dresden' },
    { zip: '', city: '' },
    { zip: null, city: null }
  ]
  return reply.csv(rows, {
    cast: {
      string: (text, { column }) =>
        column === 'zip' ? { value: text, quoted: true, quoted_empty: true } : text
    }
  })
})

app.get('/quoted-header.csv', (_request, reply) =>
  reply.csv([{ id: 1, name: 'Zoë' }], {
    cast: { string: (text, { header }) => (header ? { value: text, quoted: true } : text) }
  })
)

app.get('/pairs.csv', (_request, reply) => {
  const pairs: [string, unknown][][] = [
    [
      ['name', 'Zoë'],
      ['2026', 5],
      ['2025', 4]
    ]
  ]
  function* rows() {
    for (const row of pairs) yield Object.fromEntries(row)
  }
  return reply.csv(rows(), { columns: ['name', '2026', '2025'] })
})

app.get('/paths.csv', (_request, reply) => {
  const rows = [{ id: 1, address: { city: 'Łódź' }, tags: ['a', 'b;c'] }, { id: 2 }]
  return reply.csv(rows, {
    columns: [
      'id',
      { key: 'address.city', header: 'City' },
      { key: 'tags', value: ({ tags }) => tags?.join(' | ') }
    ]
  })
})

/** Plain objects become columns. A Date, an array or an object of a class stays a cell. */
export function* flatten(value: object, path = ''): Generator<[string, unknown]> {
  for (const [key, inner] of Object.entries(value)) {
    const isPlain =
      inner !== null && typeof inner === 'object' && Object.getPrototypeOf(inner) === Object.prototype
    if (isPlain) yield* flatten(inner, `${path}${key}.`)
    else yield [path + key, inner]
  }
}

app.get('/flattened.csv', (_request, reply) => {
  const orders = [{ id: 1, customer: { name: 'Zoë', address: { city: 'Łódź' } }, at: new Date(0) }]
  function* rows() {
    for (const order of orders) yield Object.fromEntries(flatten(order))
  }
  return reply.csv(rows())
})

const german = new Intl.NumberFormat('de-DE', {
  useGrouping: false,
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
  signDisplay: 'negative'
})

app.get('/decimal-comma.csv', (_request, reply) => {
  const rows = [
    { id: 1, price: 1234.5 },
    { id: 2, price: -0.001 },
    { id: 3, price: 12345678901234567890n },
    { id: 4, price: null }
  ]
  return reply.csv(rows, {
    delimiter: ';',
    columns: ['id', { key: 'price', value: ({ price }) => (price == null ? price : german.format(price)) }]
  })
})

export function clockOf(timeZone: string) {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    timeZoneName: 'longOffset',
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit'
  })
  return (at: Date) => {
    const parts = format.formatToParts(at).map(({ type, value }) => [type, value])
    const { year, month, day, hour, minute, second, timeZoneName } = Object.fromEntries(parts)
    return `${year}-${month}-${day} ${hour}:${minute}:${second}${timeZoneName.replace('GMT', '')}`
  }
}

const inBerlin = clockOf('Europe/Berlin')

app.get('/zone.csv', (_request, reply) => {
  const rows = [{ at: new Date('2026-10-25T00:30Z') }, { at: new Date('2026-10-25T01:30Z') }, { at: null }]
  return reply.csv(rows, { columns: [{ key: 'at', value: ({ at }) => at && inBerlin(at) }] })
})

const asText = (value: unknown) => (value == null ? value : `\t${value}`)

app.get('/excel-text.csv', (_request, reply) => {
  const rows = [
    { zip: '01067', card: 4111111111111111n },
    { zip: null, card: undefined }
  ]
  return reply.csv(rows, {
    excel: true,
    columns: [
      { key: 'zip', value: ({ zip }) => asText(zip) },
      { key: 'card', value: ({ card }) => asText(card) }
    ]
  })
})

export async function* withSeparatorLine(chunks: AsyncIterable<Uint8Array>) {
  let line = 'sep=;\r\n'
  for await (const chunk of chunks) {
    yield Buffer.concat([Buffer.from(line), chunk])
    line = ''
  }
}

app.get('/sep.csv', (_request, reply) => {
  const chunks = toCsv([{ id: 1, name: 'a;b' }], { excel: true, bom: false, delimiter: ';' })
  return reply.header('content-disposition', 'attachment; filename="sep.csv"').streamText(
    ({ signal }) => {
      signal.addEventListener('abort', () => chunks.return?.())
      return withSeparatorLine(chunks)
    },
    { type: 'text/csv; charset=utf-8' }
  )
})

export async function* utf16(chunks: AsyncIterable<Uint8Array>) {
  // It keeps a character that is cut between two chunks, and the byte order mark.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
  for await (const chunk of chunks) yield Buffer.from(decoder.decode(chunk, { stream: true }), 'utf16le')
}

app.get('/utf16.txt', (_request, reply) => {
  const chunks = toCsv([{ id: 1, name: 'Zoë 😀' }], { excel: true, delimiter: '\t' })
  return reply.header('content-disposition', 'attachment; filename="utf16.txt"').streamText(
    ({ signal }) => {
      signal.addEventListener('abort', () => chunks.return?.())
      return utf16(chunks)
    },
    { type: 'text/csv; charset=utf-16' }
  )
})

app.get('/id.csv', (_request, reply) =>
  reply.csv([{ ID: 1, name: 'Zoë' }], {
    cast: {
      string: (text, { header, index }) => (header && index === 0 ? { value: text, quoted: true } : text)
    }
  })
)

app.get('/notes.csv', (_request, reply) => {
  const rows = [
    { id: '007', text: 'C:\\, "D"\\', note: '' },
    { id: '008', text: 'NA', note: null },
    { id: '12345678901234567890', text: 'one\ntwo', note: 'x' }
  ]
  return reply.csv(rows, { quotedString: true })
})

if (import.meta.main) console.log(await app.listen({ port: Number(process.argv[2] ?? 3000) }))
