import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { glob, readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { startDatabase } from '../database.ts'
import {
  outcome,
  pack,
  project,
  run,
  typescript,
  typescriptPg,
  typescriptRequire,
  typescriptRuns
} from '../packed.ts'
import { newSchema } from '../plugins/runs/runs.ts'

t.setTimeout(600_000)

const root = join(import.meta.dirname, '../..')
const packed = await pack(t)
const databaseUrl = await startDatabase(t, { rows: 1 })

const app = `
const app = Fastify()
app.register(csvExport, { receipts: new MemoryReceipts() })
app.get('/', (_request, reply) => reply.csv([{ id: 1 }]))
`

t.test('Jest requires it without any settings', async (t) => {
  const cwd = await project(packed, 'jest', {
    type: 'commonjs',
    packages: ['jest@30', 'fastify@5'],
    files: {
      'csv.test.js': `const Fastify = require('fastify')
const csvExport = require('fastify-csv-export')
const { MemoryReceipts } = csvExport
${app}
test('csv', async () => {
  expect(csvExport.default).toBe(csvExport)
  expect(csvExport.csvExport).toBe(csvExport)
  const response = await fetch(await app.listen({ port: 0 }))
  expect(await response.text()).toBe('id\\n1\\n')
  await app.close()
})
`
    }
  })
  // Fastify's inject() is none that Jest can require.
  const { code, output } = await outcome('npx', ['jest'], { cwd })
  t.match(output, /1 passed/)
  t.equal(code, 0)
})

t.test('vitest imports it', async (t) => {
  const cwd = await project(packed, 'vitest', {
    type: 'module',
    packages: ['vitest@5', 'fastify@5'],
    files: {
      'csv.test.js': `import Fastify from 'fastify'
import csvExport, { csvExport as named, MemoryReceipts } from 'fastify-csv-export'
import { expect, test } from 'vitest'
${app}
test('csv', async () => {
  expect(named).toBe(csvExport)
  expect((await app.inject('/')).body).toBe('id\\n1\\n')
})
`
    }
  })
  const { code, output } = await outcome('npx', ['vitest@5', 'run'], { cwd })
  t.match(output, /1 passed/)
  t.equal(code, 0)
})

t.test('a bundle of esbuild runs, with one instance for import and require', async (t) => {
  const cwd = await project(packed, 'esbuild', {
    type: 'module',
    packages: ['esbuild@0.28', 'fastify@5'],
    files: {
      'main.mjs': `import Fastify from 'fastify'
import csvExport, { MemoryReceipts } from 'fastify-csv-export'
import required from './required.cjs'
${app}
app.inject('/').then(({ body }) => console.log(JSON.stringify(body), required === csvExport))
`,
      'required.cjs': `module.exports = require('fastify-csv-export')`
    }
  })
  const flags = ['--bundle', '--platform=node', '--outfile=bundle.cjs', '--log-level=warning']
  t.same(await outcome('npx', ['esbuild', 'main.mjs', ...flags], { cwd }), { code: 0, output: '' })
  t.equal((await run(process.execPath, ['bundle.cjs'], { cwd })).stdout, '"id\\n1\\n" true\n')
})

const strict = ['--strict', '--exactOptionalPropertyTypes', '--isolatedModules', '--target', 'es2022']
const resolutions = [
  ['nodenext', 'nodenext', ['mts', 'cts']],
  ['node16', 'node16', ['mts', 'cts']],
  ['preserve', 'bundler', ['mts']],
  ['esnext', 'bundler', ['mts']]
] as const

// The types of Node that a version of TypeScript can read. Those of pg-protocol need TypeScript 5.7.
for (const [version, nodeTypes, skipsTypesOfPg] of [
  ['5.4', '24', true],
  ['5.9', '26', false],
  ['7', '26', false]
] as const) {
  t.test(`TypeScript ${version} reads its types, and does not skip them`, async (t) => {
    const cwd = await project(packed, `typescript-${version}`, {
      type: 'module',
      packages: [
        ...['fastify@5', `typescript@${version}`, `@types/node@${nodeTypes}`, 'pg@8', '@types/pg@8'],
        ...[
          'pg-cursor@2',
          '@types/pg-cursor@2',
          'pg-copy-streams@7',
          '@types/pg-copy-streams@1',
          'pg-boss@12'
        ]
      ],
      files: {
        ...{ 'use.mts': typescript, 'use.cts': typescript, 'require.cts': typescriptRequire },
        ...{ 'pg.mts': typescriptPg, 'pg.cts': typescriptPg },
        ...{ 'runs.mts': typescriptRuns, 'runs.cts': typescriptRuns }
      }
    })
    const compile = async (module: string, resolution: string, skips: boolean, files: string[]) => {
      const modules = ['--module', module, '--moduleResolution', resolution, '--outDir', 'out']
      const flags = [...strict, ...modules, '--types', 'node', '--skipLibCheck', String(skips)]
      const compiled = await outcome('npx', ['tsc', ...flags, ...files], { cwd })
      t.same(compiled, { code: 0, output: '' }, `${files.join()}: ${module}, ${resolution}`)
    }
    for (const [module, resolution, endings] of resolutions) {
      const uses = endings.map((ending) => `use.${ending}`)
      // TypeScript has no such import in an ES module alone.
      if (module !== 'esnext') uses.push('require.cts')
      await compile(module, resolution, false, uses)
    }
    for (const [module, resolution, endings] of resolutions.slice(0, 3)) {
      const files = ['pg', 'runs'].flatMap((name) => endings.map((ending) => `${name}.${ending}`))
      await compile(module, resolution, skipsTypesOfPg, files)
      for (const file of files) {
        const built = `out/${file.replace('ts', 'js')}`
        const { stdout } = await run(process.execPath, [built, databaseUrl, newSchema()], { cwd })
        t.equal(stdout, file.startsWith('pg') ? "1 [ 'one' ]\ntwo\n2\n" : '"id\\n1\\n2\\n"\n', built)
      }
    }
  })
}

const helpers = [
  { helper: 'cursorRows', needs: 'pg-cursor', first: "[ '1' ]", other: 'copyRows', lacks: 'pg-copy-streams' },
  { helper: 'copyRows', needs: 'pg-copy-streams', first: 'one\n1\n', other: 'cursorRows', lacks: 'pg-cursor' }
]
for (const { helper, needs, first, other, lacks } of helpers) {
  t.test(`${helper}() works without ${lacks}, and ${other}() says that it lacks it`, async (t) => {
    const program = `
const pool = new pg.Pool({ connectionString: process.argv[2] })
async function main() {
  for await (const chunk of ${helper}(pool, 'SELECT 1 AS one')) console.log(Buffer.isBuffer(chunk) ? String(chunk) : chunk)
  for await (const _ of ${other}(pool, 'SELECT 1')) {}
}
main().catch(({ code, message }) => console.log(code, message)).then(() => pool.end())
`
    const cwd = await project(packed, `without-${lacks}`, {
      type: 'module',
      packages: ['pg@8', `${needs}@${needs === 'pg-cursor' ? 2 : 7}`],
      files: {
        'main.mjs': `import pg from 'pg'\nimport { copyRows, cursorRows } from 'fastify-csv-export/pg'${program}`,
        'main.cjs': `const pg = require('pg')\nconst { copyRows, cursorRows } = require('fastify-csv-export/pg')${program}`
      }
    })
    const said = `CSV_EXPORT_NOT_INSTALLED ${other}() needs the package ${lacks}: npm install ${lacks}`
    for (const file of ['main.mjs', 'main.cjs']) {
      const { stdout } = await run(process.execPath, [file, databaseUrl], { cwd })
      t.equal(stdout, `${first}\n${said}\n`, file)
    }
  })
}

t.test('report runs name what they lack', async (t) => {
  const program = `
const app = Fastify()
app.register(csvExport)
const [connectionString, schema] = process.argv.slice(2)
app.register(csvRuns, { connectionString, schema, reports: [], owner: 'public' })
app.ready().catch(({ code, message }) => console.log(code, message)).then(() => process.exit())
`
  const cwd = await project(packed, 'without-pg-boss', {
    type: 'module',
    packages: ['fastify@5', 'pg@8'],
    files: {
      'main.mjs': `import Fastify from 'fastify'
import csvExport from 'fastify-csv-export'
import csvRuns from 'fastify-csv-export/runs'${program}`,
      'main.cjs': `const Fastify = require('fastify')
const csvExport = require('fastify-csv-export')
const csvRuns = require('fastify-csv-export/runs')${program}`
    }
  })
  for (const lacks of ['pg-copy-streams', 'pg-boss']) {
    for (const file of ['main.mjs', 'main.cjs']) {
      const { output } = await outcome(process.execPath, [file, databaseUrl, newSchema()], { cwd })
      const needs = `CSV_EXPORT_NOT_INSTALLED \\S+ needs the package ${lacks}: npm install ${lacks}\n`
      t.match(output, new RegExp(`^${needs}$`), file)
    }
    await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', lacks], { cwd })
  }
  for (const file of ['main.mjs', 'main.cjs']) {
    t.same(
      await outcome(process.execPath, [file, databaseUrl, newSchema()], { cwd }),
      { code: 0, output: '' },
      file
    )
  }
})

t.test('publint and attw find nothing', async (t) => {
  const cwd = await project(packed, 'lint', {
    type: 'module',
    packages: ['publint@0.3', '@arethetypeswrong/cli@0.18'],
    files: {}
  })
  const published = await outcome('npx', ['publint', '--strict', packed.tarball], { cwd })
  t.match(published, { code: 0, output: /All good/ })
  // It cannot tell what the * of a subpath stands for, nor that a null takes one away.
  const { exports } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  const subpaths: string[] = []
  for await (const path of glob('plugins/*/index.ts', { cwd: root })) {
    const subpath = `./${basename(dirname(path))}`
    if (exports[subpath] !== null) subpaths.push(subpath)
  }
  const flags = ['--profile', 'node16', '--entrypoints', '.', ...subpaths, './package.json', '--']
  const { code, output } = await outcome('npx', ['attw', ...flags, packed.tarball], { cwd })
  t.equal(code === 0 ? '' : output, '')
})

t.test('NestJS streams with it', async (t) => {
  const example = (path: string) => readFile(join(root, 'examples/nestjs', path), 'utf8')
  const cwd = await project(packed, 'nestjs', {
    type: 'commonjs',
    packages: [],
    files: {
      'package.json': await example('package.json'),
      'tsconfig.json': await example('tsconfig.json'),
      'main.ts': await example('main.ts')
    }
  })
  t.same(await outcome('npx', ['tsc'], { cwd }), { code: 0, output: '' })
  const server = spawn(process.execPath, ['dist/main.js', '0'], { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => server.kill())
  let url: string | undefined
  for await (const line of createInterface({ input: server.stdout })) {
    url = /^http:.*/.exec(line)?.[0]
    if (url) break
  }
  const curl = spawn('curl', ['-sSN', `${url}/measurements.csv`], { stdio: ['ignore', 'pipe', 'inherit'] })
  const chunks: string[] = []
  curl.stdout.on('data', (chunk) => chunks.push(String(chunk)))
  t.same(await once(curl, 'close'), [0, null])
  t.match(chunks[0], /^second,degrees\n1,[\d.]+\n$/, 'the first row comes alone')
  t.equal(chunks.length, 5, 'and each other when it is there')
  t.match(chunks.at(-1), /^5,[\d.]+\n$/)
})
