import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { download } from '../clients.ts'
import { type Measure, rate } from '../measuring.ts'
import { differences } from '../outputs.ts'
import { exportUrl, NotFound, type Server, startNode, startProgram } from '../servers.ts'
import { mixed } from '../shapes.ts'

const run = promisify(execFile)
const peers = fileURLToPath(new URL('../peers/', import.meta.url))
const rows = 250_000

async function startGo(): Promise<Server> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-go-'))
  const program = join(folder, 'server')
  try {
    await run('go', ['build', '-o', program, join(peers, 'server.go')])
    return await startProgram(program, [])
  } catch (cause) {
    throw cause instanceof NotFound ? cause : new NotFound('go build', { cause })
  } finally {
    await rm(folder, { recursive: true })
  }
}

function startDjango(): Promise<Server> {
  return startProgram('gunicorn', ['--chdir', peers, '--bind', '127.0.0.1:0', 'django_server:application'], {
    PYTHONDONTWRITEBYTECODE: '1'
  })
}

function measure(name: string, start: () => Promise<Server>, atLeast: number): Measure {
  const what = `10 mixed columns: rows/s of reply.csv against ${name}`
  return {
    name: `languages: ${name}`,
    async *run(bench) {
      await using servers = new AsyncDisposableStack()
      let peer: Server
      try {
        peer = servers.use(await start())
      } catch (error) {
        if (!(error instanceof NotFound)) throw error
        return yield { what, unit: 'x', goal: { atLeast }, detail: 'not on this machine' }
      }
      const server = servers.use(await startNode('server.ts'))
      const ourUrl = (count: number) => exportUrl(server, 'reply.csv', mixed, count)
      const theirUrl = (count: number) => `${peer.url}/?rows=${count}`
      bench.notes.push(...(await differences(name, ourUrl(1000), theirUrl(1000))))
      const { ours, theirs } = await bench.medians({
        ours: async () => (await download(ourUrl(rows))).seconds,
        theirs: async () => (await download(theirUrl(rows))).seconds
      })
      const detail = `${rate(rows, ours)} against ${rate(rows, theirs)}`
      yield { what, value: theirs / ours, unit: 'x', goal: { atLeast }, detail }
    }
  }
}

export default [
  measure('Go, encoding/csv and net/http', startGo, 0.8),
  measure('Django under gunicorn', startDjango, 6)
]
