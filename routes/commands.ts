import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { PassThrough, type Readable } from 'node:stream'
import createError from '@fastify/error'
import type { FastifyInstance } from 'fastify'

export interface Command {
  description: string
  file: string
  args: string[]
}

export interface CommandsOptions {
  /** What may be run, by name. No part of a command ever comes from a request. */
  commands?: Record<string, Command>
}

const sampleCommands: Record<string, Command> = {
  uname: { description: 'the system, at once', file: 'uname', args: ['-a'] },
  date: { description: 'the time, at once', file: 'date', args: ['-u'] },
  countdown: {
    description: 'a line each second',
    file: 'sh',
    args: ['-c', 'for second in 3 2 1; do echo "$second"; sleep 1; done; echo "lift-off"']
  },
  failing: {
    description: 'writes to stderr and ends with status 3',
    file: 'sh',
    args: ['-c', 'echo "looking for trouble"; echo "found it" >&2; exit 3']
  },
  unfinished: {
    description: 'ends its last line without a line break',
    file: 'printf',
    args: ['first line\\nlast line']
  }
}

const UNKNOWN_COMMAND = createError(
  'UNKNOWN_COMMAND',
  'there is no command %s: GET /commands lists those there are',
  404
)

const noQuery = { type: 'object', additionalProperties: false, properties: {} }

export default async function commandRoutes(app: FastifyInstance, options: CommandsOptions): Promise<void> {
  const commands = new Map(Object.entries(options.commands ?? sampleCommands))

  app.get('/commands', { schema: { querystring: noQuery } }, () =>
    Array.from(commands, ([name, { description, file, args }]) => ({
      name,
      description,
      command: [file, ...args],
      output: `/commands/${encodeURIComponent(name)}/output`
    }))
  )

  app.get<{ Params: { name: string } }>(
    '/commands/:name/output',
    { schema: { querystring: noQuery } },
    (request, reply) => {
      const command = commands.get(request.params.name)
      if (command === undefined) throw new UNKNOWN_COMMAND(JSON.stringify(request.params.name))
      return reply.streamText(({ signal }) => run(command, signal))
    }
  )
}

/** Starts a command; rejects when it cannot be started. The signal kills it. */
async function run(
  { file, args }: Command,
  signal: AbortSignal
): Promise<AsyncGenerator<string | Uint8Array>> {
  // A process group of its own, so that what the command has started is killed along with it, unless it has left the group.
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  const output = merge(child)
  const kill = () => {
    killGroup(child.pid)
    // Others may still hold these pipes: their next line ends them, and they take none of our descriptors.
    child.stdout.destroy()
    child.stderr.destroy()
  }
  signal.addEventListener('abort', kill)
  child.once('close', () => signal.removeEventListener('abort', kill))
  await once(child, 'spawn')
  if (signal.aborted) kill()
  return report(child, output)
}

async function* report(child: Child, output: Readable): AsyncGenerator<string | Uint8Array> {
  let lastByte = lineFeed
  for await (const chunk of output as AsyncIterable<Buffer>) {
    yield chunk
    lastByte = chunk.at(-1) ?? lastByte
  }
  if (lastByte !== lineFeed) yield '\n'
  yield child.signalCode === null ? `[exit status ${child.exitCode}]\n` : `[killed by ${child.signalCode}]\n`
}

type Child = ChildProcessByStdio<null, Readable, Readable>

const lineFeed = 10

/** stdout and stderr as one stream of UTF-8, in the order in which they arrive. */
function merge(child: Child): Readable {
  const merged = new PassThrough()
  for (const stream of [child.stdout, child.stderr]) {
    // A character may come in parts, with something of the other stream between them.
    stream.setEncoding('utf8').pipe(merged, { end: false })
  }
  child.once('close', () => merged.end())
  return merged
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended by itself in the meantime: ESRCH, or EPERM on macOS. Nothing else can refuse our own child.
  }
}
