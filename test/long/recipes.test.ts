import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { from as copyFrom } from 'pg-copy-streams'
import t, { type Test } from 'tap'
import { startEmbeddedPostgres } from '../../database/embedded-postgres.ts'
import { app } from '../../examples/recipes.ts'
import { connect, temporaryFolder } from '../database.ts'
import { runs, skipWithout } from '../programs.ts'
import { bytesOf, codeOf, download, hostileText, outputOf } from '../recipes.ts'
import { cellsIn, openWithTokens } from './libreoffice.ts'

const execute = promisify(execFile)
t.teardown(() => app.close())
t.setTimeout(120_000)

/** Too big for every run of the checks: tried where they are, there too. */
const skipUnless = (program: string, command: string, ...args: string[]) =>
  !runs(command, ...args) && `${program} is not installed: install it to run this`

/** Runs a block of docs/recipes.md beside the file that it reads. */
async function run(t: Test, [program = '', ...args]: string[]): Promise<string> {
  const cwd = await temporaryFolder(t)
  await writeFile(join(cwd, 'notes.csv'), await download('/notes.csv'))
  return (await execute(program, args, { cwd })).stdout
}

/** What the page says that the block prints. */
const shown = (code: string) => bytesOf(outputOf((block) => block.code === code)).toString()

t.test('PostgreSQL tells NULL, the empty text and a text of \\N apart', async (t) => {
  const { url, stop } = await startEmbeddedPostgres({ folder: await temporaryFolder(t) })
  t.teardown(stop)
  const client = await connect(t, url)
  await client.query('CREATE TEMPORARY TABLE notes (id int, note text)')
  const notes = [null, undefined, ...fc.sample(hostileText, 2_000).map((note) => note.replaceAll('\0', ''))]
  const rows = notes.map((note, id) => ({ id, note }))
  const file = await download('/null.csv', rows)
  const copy = copyFrom("COPY notes FROM STDIN (FORMAT csv, HEADER, NULL '\\N')")
  await pipeline([file], client.query(copy))
  const read = await client.query('SELECT note FROM notes ORDER BY id')
  t.same(
    read.rows.map(({ note }) => note),
    notes.map((note) => note ?? null)
  )
})

const withoutPhp = skipWithout('PHP (php-cli)', 'php', '--version')
t.test('PHP reads what docs/recipes.md says', { skip: withoutPhp }, async (t) => {
  const code = codeOf('php')
  t.equal(await run(t, ['php', '-r', code]), shown(code))
  const withBackslash = await run(t, ['php', '-r', code.replace(", ',', '\"', ''", '')])
  t.equal(withBackslash.trim().split('\n').length, 3, 'with its own escape, records run into each other')
  const marked = String.raw`file_put_contents('notes.csv', "\u{feff}id\n"); ${code}`
  t.equal(await run(t, ['php', '-r', marked]), '["\\ufeffid"]\n')
})

const withoutRuby = skipWithout('Ruby', 'ruby', '-rcsv', '-e', '')
t.test('Ruby reads what docs/recipes.md says', { skip: withoutRuby }, async (t) => {
  const code = codeOf('ruby')
  t.equal(await run(t, ['ruby', '-e', code]), shown(code))
  const liberal = code.replace('headers: true', 'headers: true, liberal_parsing: true')
  t.equal(await run(t, ['ruby', '-e', liberal]), shown(code), 'liberal_parsing changes nothing')
  const marked = String.raw`File.write('notes.csv', "\ufeffid\n1\n"); ${code.replace('p row.fields', 'p row.headers')}`
  t.equal(await run(t, ['ruby', '-e', marked]), '["id"]\n')
  const same = code.replace('headers: true', "headers: true, nil_value: ''")
  t.equal(await run(t, ['ruby', '-e', same]), shown(code).replace('nil', '""'))
  const header = String.raw`CSV.parse(%("a\r\nb",c\n1,2\n)`
  await t.rejects(run(t, ['ruby', '-rcsv', '-e', `${header})`]), /MalformedCSVError/)
  const parted = await run(t, ['ruby', '-rcsv', '-e', String.raw`p ${header}, row_sep: "\n")`])
  t.equal(parted, `${String.raw`[["a\r\nb", "c"], ["1", "2"]]`}\n`)
})

const withoutDuckDb = skipUnless('DuckDB (pip install duckdb)', 'python3', '-c', 'import duckdb')
t.test('DuckDB reads what docs/recipes.md says', { skip: withoutDuckDb }, async (t) => {
  const query = async (...statements: string[]) => {
    const script = `import duckdb, json, sys
for statement in sys.argv[1:]: answer = duckdb.sql(statement)
print(json.dumps(answer.fetchall()))`
    return JSON.parse(await run(t, ['python3', '-c', script, ...statements]))
  }
  const code = codeOf('sql')
  t.same(await query(code), JSON.parse(outputOf((block) => block.code === code).code))
  const guessed = await query(code.replace(', allow_quoted_nulls = false', ''))
  t.same(
    guessed.map(([, , note]: unknown[]) => note),
    [null, null, 'x']
  )
  const types = 'SELECT typeof(id) FROM read_csv'
  t.same(await query(`${types}('notes.csv') LIMIT 1`), [['VARCHAR']])
  const long = `COPY (SELECT '${'1'.repeat(40)}' AS id) TO 'long.csv'`
  t.same(await query(long, `${types}('long.csv')`), [['DOUBLE']])
})

const withoutR = skipUnless('R (r-base-core)', 'Rscript', '--version')
t.test('R reads what docs/recipes.md says', { skip: withoutR }, async (t) => {
  const code = codeOf('r')
  t.equal(await run(t, ['Rscript', '-e', code]), shown(code))
  const guessed = `notes <- read.csv('notes.csv'); cat(notes$id[1], is.na(notes$text[2]))`
  t.equal(await run(t, ['Rscript', '-e', guessed]), '7 TRUE')
  const others = String.raw`cat('"a b",n\n"x\r\ny","\\N"\n', file = 'x.csv')
x <- read.csv('x.csv', na.strings = '\\N')
cat(names(x)[1], is.na(x$n), x[[1]] == 'x\ny')`
  t.equal(await run(t, ['Rscript', '-e', others]), 'a.b TRUE TRUE')
})

const withoutReadr = skipUnless('readr (r-cran-readr)', 'Rscript', '-e', 'library(readr)')
t.test('readr reads what docs/recipes.md says', { skip: withoutReadr }, async (t) => {
  const code = codeOf('r', 1)
  t.equal(await run(t, ['Rscript', '-e', code]), shown(code).trim())
  const others = String.raw`cat('a,b\n x ,"p\r\nq"\n', file = 'x.csv')
x <- readr::read_csv('x.csv', show_col_types = FALSE)
cat(x$a == 'x', x$b == 'p\r\nq')`
  t.equal(await run(t, ['Rscript', '-e', others]), 'TRUE TRUE')
})

const withoutLibreOffice = skipWithout('LibreOffice (libreoffice-calc-nogui)', 'soffice', '--version')
t.test('LibreOffice opens what docs/recipes.md says', { skip: withoutLibreOffice }, async (t) => {
  const open = async (files: Buffer[], tokens?: string) =>
    (await openWithTokens(await temporaryFolder(t), files, tokens)).map(cellsIn)
  const [, tokens = ''] = /\(StarCalc\):([\w,]+)/.exec(codeOf('sh')) ?? []
  const notes = await download('/notes.csv')
  const [quotedAsText] = await open([notes], tokens)
  t.same(
    quotedAsText?.filter((cell) => typeof cell === 'number'),
    []
  )
  t.ok(quotedAsText?.includes('007') && quotedAsText.includes('12345678901234567890'))
  const [guessed] = await open([notes], tokens.replace(/,true$/, ''))
  t.same(
    guessed?.filter((cell) => typeof cell === 'number'),
    [7, 8, 12345678901234600000]
  )
  const [wide] = await open([await download('/utf16.txt')], '9,34,65535,1')
  t.same(wide, ['id', 'name', 1, 'Zoë 😀'])
  const ids = ['ID,P\n1,x\n', '"ID",P\n1,x\n', 'ID;PWXL;N;E\n1;x;y;z\n']
  const [bare, quoted, sylk] = await open(ids.map((text) => Buffer.from(text)))
  t.same(bare, ['ID', 'P', 1, 'x'])
  t.same(quoted, bare)
  t.same(sylk, ['ID;PWXL;N;E', '1;x;y;z'], 'is no SYLK to it')
})
