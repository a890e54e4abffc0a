import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

// Compiles each folder of plugins/ that has an index.ts as CommonJS, and gives it the faces of a subpath of the package:
// dist/<folder>.cjs for require, dist/<folder>.mjs for import. The second is made of the first: were each a build of its
// own, a process that uses both would have two decorators, two error classes and two stores. A folder
// with a bin.ts is a program: dist/<folder>/bin.js.

const require = createRequire(import.meta.url)
const dist = join(import.meta.dirname, 'dist')

rmSync(dist, { recursive: true, force: true })
const compiler = join(require.resolve('typescript/package.json'), '../bin/tsc')
execFileSync(process.execPath, [compiler, '-p', 'tsconfig.build.json'], {
  cwd: import.meta.dirname,
  stdio: 'inherit'
})
writeFileSync(join(dist, 'package.json'), '{ "type": "commonjs" }\n')
for (const file of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
  if (file.endsWith('.d.ts')) forgetGenericBuffers(join(dist, file))
}
for (const folder of readdirSync(dist)) {
  if (existsSync(join(dist, folder, 'index.js'))) writeFaces(folder)
}

/** Inferred types have them, and older @types/node, which older TypeScript needs, do not. */
function forgetGenericBuffers(file: string): void {
  writeFileSync(file, readFileSync(file, 'utf8').replaceAll('Buffer<ArrayBufferLike>', 'Buffer'))
}

function writeFaces(folder: string): void {
  const face = join(dist, folder)
  const inner = `'./${folder}/index.js'`
  writeFileSync(
    `${face}.cjs`,
    `'use strict'
const built = require(${inner})
// What has a default export is that itself, with all names as its members.
module.exports = Object.assign(built.default ?? {}, built)
`
  )
  const { default: main, ...values } = require(join(face, 'index.js'))
  writeFileSync(
    `${face}.mjs`,
    `import built from './${folder}.cjs'
export const { ${Object.keys(values).join(', ')} } = built
${main ? 'export default built\n' : ''}`
  )
  const names = exportedNames(readFileSync(join(face, 'index.d.ts'), 'utf8')).join(', ')
  writeFileSync(
    `${face}.d.cts`,
    main
      ? `import main, { ${names} } from ${inner}
declare function built(...args: Parameters<typeof main>): ReturnType<typeof main>
declare namespace built {
  export { main as default, ${names} }
}
export = built
`
      : `export * from ${inner}\n`
  )
  writeFileSync(
    `${face}.d.mts`,
    `export * from ${inner}
${main ? `import built from './${folder}.cjs'\nexport default built\n` : ''}`
  )
}

/** The names that a module's declarations export, types among them, but for the default. */
function exportedNames(declarations: string): string[] {
  if (/^export \*/m.test(declarations)) throw new Error('an index.ts lists what it exports: no export *')
  const lists = [...declarations.matchAll(/^export (?:type )?\{([^}]*)\}/gm)]
  const listed = lists.flatMap(([, list = '']) => list.split(',')).map((entry) => entry.trim().split(' as '))
  const declared = declarations.matchAll(
    /^export (?:declare |abstract )*(?:async )?(?:function\*?|class|const|let|interface|type|enum) (\w+)/gm
  )
  return [
    ...listed.map((names) => names.at(-1) as string),
    ...[...declared].map(([, name]) => name as string)
  ]
    .map((name) => name.replace(/^type /, ''))
    .filter((name) => name && name !== 'default')
}
