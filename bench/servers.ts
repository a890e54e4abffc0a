import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Shape } from './shapes.ts'

/** A server under measurement, in a process of its own. */
export interface Server extends AsyncDisposable {
  url: string
  /** Milliseconds from its process's start until it listens. */
  startUp: number
}

/** A server's program that is not on this machine, or does not run. */
export class NotFound extends Error {}

const running = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of running) child.kill()
})

/** Starts a program that writes its URL once it listens. */
export async function startProgram(command: string, args: string[], env = {}): Promise<Server> {
  const started = performance.now()
  const child = spawn(command, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  running.add(child)
  const output: string[] = []
  const url = await new Promise<string>((resolve, reject) => {
    const onLine = (line: string): void => {
      if (output.length < 20) output.push(line)
      const found = /http:\/\/[\d.]+:\d+/.exec(line)
      if (found) resolve(found[0])
    }
    for (const input of [child.stdout, child.stderr]) createInterface({ input }).on('line', onLine)
    child.once('error', reject)
    child.once('close', () => reject(new Error(output.join('\n'))))
  }).catch((cause) => {
    throw new NotFound(`${command} does not start`, { cause })
  })
  return {
    url,
    startUp: performance.now() - started,
    async [Symbol.asyncDispose]() {
      running.delete(child)
      const ended = once(child, 'exit')
      child.kill()
      await ended
    }
  }
}

/** One of the servers in this folder. */
export function startNode(
  file: 'server.ts' | 'small-server.ts',
  args: string[] = [],
  env = {}
): Promise<Server> {
  return startProgram(process.execPath, [fileURLToPath(new URL(file, import.meta.url)), ...args], env)
}

/** The rows of a shape, sent in one of the ways of ways.ts. */
export function exportUrl({ url }: { url: string }, way: string, shape: Shape, rows = shape.rows): string {
  return `${url}/export?${new URLSearchParams({ way, shape: shape.name, rows: String(rows) })}`
}

/** Of a server.ts, in bytes. */
export async function memory({ url }: Server): Promise<{ now: number; peak: number }> {
  // Measures last for longer than the server keeps an idle connection.
  const response = await fetch(`${url}/memory`, { headers: { connection: 'close' } })
  return (await response.json()) as { now: number; peak: number }
}
