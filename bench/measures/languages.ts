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

/** @param goals by our way of sending them */
function measure(name: string, start: () => Promise<Server>, goals: Record<string, number>): Measure {
  const what = (way: string) => `10 mixed columns: rows/s of ${way} against ${name}`
  return {
    name: `languages: ${name}`,
    async *run(bench) {
      await using servers = new AsyncDisposableStack()
      let peer: Server
      try {
        peer = servers.use(await start())
      } catch (error) {
        if (!(error instanceof NotFound)) throw error
        for (const [way, atLeast] of Object.entries(goals)) {
          yield { what: what(way), unit: 'x', goal: { atLeast }, detail: 'not on this machine' }
        }
        return
      }
      const server = servers.use(await startNode('server.ts'))
      const ourUrl = (way: string, count: number) => exportUrl(server, way, mixed, count)
      const theirUrl = (count: number) => `${peer.url}/?rows=${count}`
      const runs: Record<string, () => Promise<number>> = {
        theirs: async () => (await download(theirUrl(rows))).seconds
      }
      for (const way of Object.keys(goals)) {
        bench.notes.push(...(await differences(name, ourUrl(way, 1000), theirUrl(1000))))
        runs[way] = async () => (await download(ourUrl(way, rows))).seconds
      }
      const seconds = await bench.medians(runs)
      const theirs = seconds.theirs as number
      for (const [way, atLeast] of Object.entries(goals)) {
        const ours = seconds[way] as number
        const detail = `${rate(rows, ours)} against ${rate(rows, theirs)}`
        yield { what: what(way), value: theirs / ours, unit: 'x', goal: { atLeast }, detail }
      }
    }
  }
}

export default [
  measure('Go, encoding/csv and net/http', startGo, {
    'reply.csv': 0.8,
    'reply.csv, rows in batches': 1
  }),
  measure('Django under gunicorn', startDjango, { 'reply.csv': 6 })
]
