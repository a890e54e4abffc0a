import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { parse } from 'csv-parse/sync'
import type pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import type { Test } from 'tap'

/** How a file is written, as its reader has to be told. */
export interface Dialect {
  delimiter: string
  quote: string
}

/** The records that a program finds in a CSV file; null where it tells it from an empty string. */
export type Reader = (file: Buffer, dialect: Dialect) => Promise<(string | null)[][]>

/** https://www.npmjs.com/package/csv-parse */
export const csvParse: Reader = async (file, { delimiter, quote }) =>
  parse(file, { delimiter, quote, escape: quote })

// UTF-8 that is none is an error, as is, with strict, a quote where none may be.
const script = `
import csv, io, json, sys
csv.field_size_limit(sys.maxsize)
files = sys.stdin.buffer
for line in files:
    size, delimiter, quote = json.loads(line)
    text = io.StringIO(files.read(size).decode('utf-8'), newline='')
    try:
        answer = list(csv.reader(text, delimiter=delimiter, quotechar=quote, strict=True))
    except csv.Error as error:
        answer = str(error)
    print(json.dumps(answer), flush=True)
`

/** Python's csv module, one process for all files of a test; undefined if there is no Python. */
export async function startPython(t: Test): Promise<Reader | undefined> {
  const python = spawn('python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const [failed] = await Promise.race([
    once(python, 'spawn'),
    once(python, 'error').catch((error) => [error])
  ])
  if (failed) return undefined
  t.teardown(() => python.stdin.end())
  const answers = createInterface(python.stdout)[Symbol.asyncIterator]()
  return async (file, { delimiter, quote }) => {
    python.stdin.write(`${JSON.stringify([file.length, delimiter, quote])}\n`)
    python.stdin.write(file)
    const answer = JSON.parse((await answers.next()).value as string)
    if (typeof answer === 'string') throw new Error(answer)
    return answer
  }
}

/** PostgreSQL's COPY FROM into a table of text columns. The header line, if there is one, is a row too. */
export function postgres(client: pg.Client, columns: number): Reader {
  const names = Array.from({ length: columns }, (_, index) => `c${index}`)
  const table = `cells_${columns}`
  return async (file, { delimiter, quote }) => {
    await client.query(
      `CREATE TEMPORARY TABLE IF NOT EXISTS ${table}
       (number bigint GENERATED ALWAYS AS IDENTITY, ${names.map((name) => `${name} text`).join(', ')})`
    )
    await client.query(`DELETE FROM ${table}`)
    const literal = (text: string) => `E'${text === '\t' ? '\\t' : text.replaceAll("'", "\\'")}'`
    const options = `FORMAT csv, DELIMITER ${literal(delimiter)}, QUOTE ${literal(quote)}`
    const copy = client.query(copyFrom(`COPY ${table} (${names}) FROM STDIN (${options})`))
    await pipeline([file], copy)
    const text = `SELECT ${names} FROM ${table} ORDER BY number`
    return (await client.query<(string | null)[]>({ text, rowMode: 'array' })).rows
  }
}
