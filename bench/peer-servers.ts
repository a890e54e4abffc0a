import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { NotFound, type Server, startProgram } from './servers.ts'

const run = promisify(execFile)
const peers = fileURLToPath(new URL('./peers/', import.meta.url))

/** Servers in other languages. @throws NotFound where the machine lacks the language */
export async function startGo(): Promise<Server> {
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

export function startDjango(): Promise<Server> {
  return startProgram('gunicorn', ['--chdir', peers, '--bind', '127.0.0.1:0', 'django_server:application'], {
    PYTHONDONTWRITEBYTECODE: '1'
  })
}
