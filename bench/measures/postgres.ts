import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { download } from '../clients.ts'
import { type Measure, rate } from '../measuring.ts'
import { differences } from '../outputs.ts'
import { rows, startDatabase } from '../postgres-rows.ts'
import { startNode } from '../servers.ts'

const run = promisify(execFile)

const measure: Measure = {
  name: 'postgres',
  async *run(bench) {
    await using cleanUp = new AsyncDisposableStack()
    const database = cleanUp.use(await startDatabase())
    const way = async (path: string) => {
      const { url } = cleanUp.use(await startNode('server.ts', [], { DATABASE_URL: database.url }))
      return { url: url + path, run: async () => (await download(url + path)).seconds }
    }
    const [cursor, queryStream, copy] = [await way('/cursor'), await way('/query-stream'), await way('/copy')]
    bench.notes.push(...(await differences('pg-query-stream', cursor.url, queryStream.url)))
    bench.notes.push(...(await differences('COPY', cursor.url, copy.url)))
    const seconds = await bench.times({ cursor: cursor.run, queryStream: queryStream.run })
    yield {
      what: 'PostgreSQL by cursor: rows/s of reply.csv against pg-query-stream into the usual pipeline',
      value: seconds.queryStream / seconds.cursor,
      unit: 'x',
      goal: { atLeast: 3.5 },
      detail: `${rate(rows, seconds.cursor)} against ${rate(rows, seconds.queryStream)}`
    }

    const file = join(database.folder, 'rows.csv')
    const psql = async () => {
      const start = performance.now()
      await run('psql', [
        database.url,
        '-qc',
        `\\copy (SELECT * FROM rows) TO '${file}' WITH (FORMAT csv, HEADER)`
      ])
      return (performance.now() - start) / 1000
    }
    const goal = { atLeast: 0.8 }
    const what = 'PostgreSQL by COPY: rows/s against psql \\copy to a file'
    if (!(await isInstalled('psql')))
      return yield { what, unit: 'x', goal, detail: 'psql is not on this machine' }
    const copying = await bench.times({ copy: copy.run, psql })
    const detail = `${rate(rows, copying.copy)} against ${rate(rows, copying.psql)}`
    yield { what, value: copying.psql / copying.copy, unit: 'x', goal, detail }
  }
}

function isInstalled(program: string): Promise<boolean> {
  return run(program, ['--version']).then(
    () => true,
    () => false
  )
}

export default measure
