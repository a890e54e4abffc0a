import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { AddressInfo } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import type { FastifyInstance } from 'fastify'

/** Listens on a free port of the loopback interface; resolves to the origin. */
export async function listen(app: FastifyInstance): Promise<string> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
}

export type CurlProcess = ChildProcessByStdio<Writable, Readable, Readable>

/** A curl that runs; what it prints can be awaited with `printed()`. */
export function startCurl(...args: string[]): CurlProcess {
  return spawn('curl', ['--silent', '--show-error', '--no-buffer', '--max-time', '60', ...args])
}

/** Reads until the text matches; resolves to all that was read, rejects when the stream ends before. */
export async function printed(stream: Readable, pattern: RegExp): Promise<string> {
  let seen = ''
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    seen += chunk
    if (pattern.test(seen)) return seen
  }
  throw new Error(`the stream ended before ${pattern}: ${JSON.stringify(seen)}`)
}

/** Resolves when the condition holds: for what sends no event, such as the death of another's process. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}
