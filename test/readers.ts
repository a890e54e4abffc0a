import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { parse } from 'csv-parse/sync'
import { parseString } from 'fast-csv'
import Papa from 'papaparse'
import type pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import type { Test } from 'tap'
import { runs } from './programs.ts'

/** How a file is written, as its reader has to be told. */
export interface Dialect {
  delimiter: string
  quote: string
  escape: string
  /** papaparse would guess it, wrongly where a cell has line breaks of other kinds. */
  recordDelimiter: string
}

/** The records that a program finds in a CSV file; null where it tells it from an empty string. */
export type Reader = (file: Buffer, dialect: Dialect) => Promise<(string | null)[][]>

/** https://csv.js.org/parse/ */
export const csvParse: Reader = async (file, { delimiter, quote, escape: escapeCharacter }) =>
  parse(file, { delimiter, quote, escape: escapeCharacter })

/** https://www.papaparse.com/docs */
export const papaparse: Reader = async (
  file,
  { delimiter, quote, escape: escapeCharacter, recordDelimiter }
) => {
  const newline = recordDelimiter as '\n'
  const text = file.toString()
  const { data, errors } = Papa.parse<string[]>(text, {
    delimiter,
    newline,
    quoteChar: quote,
    escapeChar: escapeCharacter
  })
  const faults = errors.filter(({ type }) => type === 'Quotes')
  if (faults.length > 0) throw new Error(JSON.stringify(faults))
  // It takes what follows the last line break for one more record, and skipEmptyLines takes `""` for none.
  return text === '' || text.endsWith(newline) ? data.slice(0, -1) : data
}

/** https://c2fo.github.io/fast-csv/ */
export const fastCsv: Reader = async (file, { delimiter, quote, escape: escapeCharacter }) =>
  parseString(file.toString(), { delimiter, quote, escape: escapeCharacter }).toArray()

// UTF-8 that is none is an error, as is, with strict, a quote where none may be.
const csvModule = `
import csv
csv.field_size_limit(sys.maxsize)
def read(file, delimiter, quote, escape, record_delimiter):
    text = io.StringIO(file.decode('utf-8'), newline='')
    return list(csv.reader(text, delimiter=delimiter, quotechar=quote, strict=True,
        doublequote=escape == quote, escapechar=None if escape == quote else escape))
`

// Without these it takes text such as NA for a missing value, and numbers for numbers.
const pandasModule = `
import pandas
def read(file, delimiter, quote, escape, record_delimiter):
    try:
        return pandas.read_csv(io.BytesIO(file), sep=delimiter, quotechar=quote,
            doublequote=escape == quote, escapechar=None if escape == quote else escape,
            lineterminator='\\r' if record_delimiter == '\\r' else None,
            header=None, dtype=str, keep_default_na=False).values.tolist()
    except pandas.errors.EmptyDataError:
        return []
`

const answering = `
files = sys.stdin.buffer
for line in files:
    size, *dialect = json.loads(line)
    try:
        answer = read(files.read(size), *dialect)
    except Exception as error:
        answer = repr(error)
    print(json.dumps(answer), flush=True)
`

/** Python's csv module. */
export const startPython = (t: Test): Reader => startScript(t, 'python3', csvModule)

/** The Python that has pandas: Debian's package is for Debian's own, which need not be the first. */
export const pandasPython =
  ['python3', '/usr/bin/python3'].find((python) => runs(python, '-c', 'import pandas')) ?? 'python3'

/** https://pandas.pydata.org/docs/reference/api/pandas.read_csv.html */
export const startPandas = (t: Test): Reader => startScript(t, pandasPython, pandasModule)

const phpScript = `
while (($line = fgets(STDIN)) !== false) {
    [$size, $delimiter, $quote] = json_decode($line);
    $file = fopen('php://memory', 'w+');
    if ($size > 0) fwrite($file, stream_get_contents(STDIN, $size));
    rewind($file);
    $rows = [];
    while (($row = fgetcsv($file, null, $delimiter, $quote, '')) !== false) $rows[] = $row;
    echo json_encode($rows), "\\n";
}
`

/** https://www.php.net/fgetcsv */
export const startPhp = (t: Test): Reader => startProgram(t, ['php', '-r', phpScript])

// Without row_sep it takes the first line break for it, in a quoted field too.
const rubyScript = `
require 'csv'
require 'json'
STDIN.binmode
STDOUT.sync = true
while (line = STDIN.gets)
  size, delimiter, quote, _, record_delimiter = JSON.parse(line)
  text = size > 0 ? STDIN.read(size).force_encoding('utf-8') : ''
  answer = begin
    CSV.parse(text, col_sep: delimiter, quote_char: quote, row_sep: record_delimiter)
  rescue => error
    error.inspect
  end
  puts JSON.generate(answer, ascii_only: true)
end
`

/** https://ruby.github.io/csv/ */
export const startRuby = (t: Test): Reader => startProgram(t, ['ruby', '-e', rubyScript])

const startScript = (t: Test, python: string, module: string): Reader =>
  startProgram(t, [python, '-c', `import io, json, sys${module}${answering}`])

/** One process for all files of a test. */
function startProgram(t: Test, [program = '', ...args]: string[]): Reader {
  const { stdin, stdout } = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => stdin.end())
  const answers = createInterface(stdout)[Symbol.asyncIterator]()
  return async (file, { delimiter, quote, escape: escapeCharacter, recordDelimiter }) => {
    const dialect = [delimiter, quote, escapeCharacter, recordDelimiter]
    stdin.write(`${JSON.stringify([file.length, ...dialect])}\n`)
    stdin.write(file)
    const { value = '"it has ended"' } = await answers.next()
    const answer = JSON.parse(value)
    if (typeof answer === 'string') throw new Error(answer)
    return answer
  }
}

/** PostgreSQL's COPY FROM into a table of text columns. The header line, if there is one, is a row too. */
export function postgres(client: pg.Client, columns: number): Reader {
  const names = Array.from({ length: columns }, (_, index) => `c${index}`)
  const table = `cells_${columns}`
  return async (file, { delimiter, quote, escape: escapeCharacter }) => {
    await client.query(
      `CREATE TEMPORARY TABLE IF NOT EXISTS ${table}
       (number bigint GENERATED ALWAYS AS IDENTITY, ${names.map((name) => `${name} text`).join(', ')})`
    )
    await client.query(`DELETE FROM ${table}`)
    const [delimiterText, quoteText, escapeText] = [delimiter, quote, escapeCharacter].map(
      (character) => `E'\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}'`
    )
    const options = `FORMAT csv, DELIMITER ${delimiterText}, QUOTE ${quoteText}, ESCAPE ${escapeText}`
    const copy = client.query(copyFrom(`COPY ${table} (${names}) FROM STDIN (${options})`))
    await pipeline([file], copy)
    const text = `SELECT ${names} FROM ${table} ORDER BY number`
    return (await client.query<(string | null)[]>({ text, rowMode: 'array' })).rows
  }
}
