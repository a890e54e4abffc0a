import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'

const execute = promisify(execFile)
const root = join(import.meta.dirname, '..')

/**
 * As in a user's shell: what the test runner hooks into every child's Node would reach npm and tsc too. What tools leave in
 * the temporary folder goes with the project.
 */
export const run = (file: string, args: string[], { cwd }: { cwd: string }) =>
  execute('env', ['-u', 'NODE_OPTIONS', `TMPDIR=${cwd}`, file, ...args], { cwd, maxBuffer: 2 ** 24 })

/** What a tool says and its exit status, which no longer throws. */
export async function outcome(file: string, args: string[], { cwd }: { cwd: string }) {
  return run(file, args, { cwd }).then(
    ({ stdout, stderr }) => ({ code: 0, output: stdout + stderr }),
    ({ code, stdout, stderr }) => ({ code, output: stdout + stderr })
  )
}

export interface Packed {
  /** Holds the tarball, and is removed when the test ends. */
  folder: string
  tarball: string
  /** Paths in the tarball. */
  files: string[]
}

/** The package as `npm publish` would send it. */
export async function pack(t: Test): Promise<Packed> {
  const folder = await mkdtemp(join(tmpdir(), 'fastify-csv-export-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const { stdout } = await run('npm', ['pack', root, '--json', '--pack-destination', folder], { cwd: folder })
  const output = JSON.parse(stdout)
  const [{ filename, files }] = (Array.isArray(output) ? output : Object.values(output)) as [
    { filename: string; files: { path: string }[] }
  ]
  return { folder, tarball: join(folder, filename), files: files.map(({ path }) => path) }
}

/** A project that has installed the tarball and further packages. */
export async function project(
  { folder, tarball }: Packed,
  name: string,
  {
    type,
    packages,
    files
  }: { type: 'module' | 'commonjs'; packages: string[]; files: Record<string, string> }
): Promise<string> {
  const cwd = join(folder, name)
  for (const [path, text] of Object.entries({ 'package.json': JSON.stringify({ type }), ...files })) {
    await mkdir(dirname(join(cwd, path)), { recursive: true })
    await writeFile(join(cwd, path), text)
  }
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball, ...packages], { cwd })
  return cwd
}

/** What a TypeScript user writes, in a module or in CommonJS. */
export const typescript = `import Fastify from 'fastify'
import csvExport, { columnsOf, csvExport as named, type CsvOptions, csvResponse, MemoryReceipts, type Receipt, toCsv } from 'fastify-csv-export'

const app = Fastify()
app.register(csvExport, { delimiter: ';' })
app.register(named, { receipts: new MemoryReceipts(), onReceipt: (receipt: Receipt) => console.log(receipt.rows) })
const store: MemoryReceipts = new MemoryReceipts()
const options: CsvOptions<{ id: number }> = { columns: ['id'] }
app.get('/', (_request, reply) => reply.csv([{ id: 1 }], options))
app.get('/text', (_request, reply) => reply.streamText(['text'], { heartbeat: { every: 1000, text: '.' } }))
app.get('/undefined', (_request, reply) => reply.csv([{ id: 1 }], { filename: undefined }))
// @ts-expect-error: no such column
app.get('/wrong', (_request, reply) => reply.csv([{ id: 1 }], { columns: ['ID'] }))
const schema = { type: 'object', properties: { id: { type: 'integer', title: 'No.' } } } as const
app.get('/schema', { schema: { response: csvResponse(schema) } }, (_request, reply) =>
  reply.csv([{ id: 1 }], { columns: columnsOf(schema) })
)
// @ts-expect-error: no such key in the rows
app.get('/other', (_request, reply) => reply.csv([{ ID: 1 }], { columns: columnsOf(schema) }))
// @ts-expect-error: a delimiter is text
app.register(csvExport, { delimiter: 1 })
export { store }
export const chunks: AsyncIterable<Buffer> = toCsv([{ id: 1 }], options)
`

/** What one writes who reads from PostgreSQL: prints a row, then a header and a row. */
export const typescriptPg = `import { copyRows, type CursorRows, cursorRows, type TextRow } from 'fastify-csv-export/pg'
import pg from 'pg'

const pool = new pg.Pool({ connectionString: process.argv[2] as string })
async function print(): Promise<void> {
  const rows: CursorRows = cursorRows(pool, 'SELECT $1::int AS one', [1], { batchSize: 10 })
  for await (const row of rows) {
    const [one]: TextRow = row
    console.log(one, rows.columns)
  }
  const chunks: AsyncIterable<Uint8Array> = copyRows(pool, 'SELECT 2 AS two')
  for await (const chunk of chunks) process.stdout.write(chunk)
  await pool.end()
}
print()
// @ts-expect-error: a pool comes first
export const wrong = () => cursorRows('SELECT 1')
`

/** What one writes who has report runs: makes one, and prints the file of it. */
export const typescriptRuns = `import csvExport from 'fastify-csv-export'
import csvRuns, { defineReport, DirectoryFiles, type FileStore, type Report, type Run, type RunsOptions } from 'fastify-csv-export/runs'
import Fastify from 'fastify'

const numbers: Report = defineReport({
  name: 'numbers',
  version: 1,
  parameters: { type: 'object', additionalProperties: false, properties: { count: { type: 'integer' } } },
  *rows({ parameters }: { parameters: { count: number } }) {
    for (let id = 1; id <= parameters.count; id++) yield { id }
  }
})
const files: FileStore = new DirectoryFiles({ folder: 'files' })
const [connectionString = '', schema] = process.argv.slice(2)
const options: RunsOptions = { connectionString, schema, reports: [numbers], owner: 'public', files }
const app = Fastify()
app.register(csvExport)
app.register(csvRuns, options)
async function main(): Promise<void> {
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const headers = { prefer: 'respond-async' }
  const accepted = await fetch(url + '/reports/numbers.csv?count=2', { headers })
  const { id } = (await accepted.json()) as Run
  const kept = await fetch(url + '/runs/' + id + '/result', { headers: { prefer: 'wait=60' } })
  console.log(JSON.stringify(await kept.text()))
  await app.close()
}
main()
// @ts-expect-error: a report has a name
export const wrong = () => defineReport({ version: 1, parameters: {}, rows: () => [] })
// @ts-expect-error: an owner is asked for
export const nobodys: RunsOptions = { connectionString, reports: [numbers] }
`

/** The same without a default: what \`require\` gives is the plugin, and has the rest as its members. */
export const typescriptRequire = `import csvExport = require('fastify-csv-export')
import Fastify = require('fastify')

const app = Fastify()
app.register(csvExport, { delimiter: ';' })
app.register(csvExport.default, { delimiter: ';' })
app.register(csvExport.csvExport, { receipts: new csvExport.MemoryReceipts() })
const store: csvExport.MemoryReceipts = new csvExport.MemoryReceipts()
const options: csvExport.CsvOptions<{ id: number }> = { columns: ['id'] }
app.get('/', (_request, reply) => reply.csv([{ id: 1 }], options))
// @ts-expect-error: a delimiter is text
app.register(csvExport, { delimiter: 1 })
export = store
`
