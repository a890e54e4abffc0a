import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import Fastify from 'fastify'

/**
 * Why a test that needs a program is skipped on one's own machine, or false where it is run. With CI=true it is always
 * run, and fails without the program: a skipped test would hide that nothing was tested.
 * @param command which fails without the program
 */
export function skipWithout(program: string, command: string, ...args: string[]): string | false {
  if (process.env.CI === 'true' || runs(command, ...args)) return false
  return `${program} is not installed: install it to run this`
}

export function runs(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0
}

/** Why a test is skipped with a Fastify that lacks what it needs, or false where it is run. */
export function skipBefore(version: string, need: string): string | false {
  if (Fastify().version.localeCompare(version, 'en', { numeric: true }) >= 0) return false
  return `${need}: Fastify ${version}`
}

export interface RunningProgram {
  /** Sends a signal to all of its processes; resolves when they are gone. */
  end(signal: NodeJS.Signals): Promise<void>
}

/**
 * Runs a server that stays in the foreground; resolves when it accepts connections.
 * @param port one of those that it listens on
 * @param onMessage called with what it writes to stderr
 * @param env of its own, besides the test's
 */
export async function runListening(
  [program = '', ...args]: string[],
  port: number,
  onMessage: (text: string) => void,
  env: NodeJS.ProcessEnv = {}
): Promise<RunningProgram> {
  const child = spawn(program, args, {
    // A pipe of our own: one shared with the test runner would keep it waiting for a server that outlives a test.
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
    // Its workers are in its process group, which a signal then reaches whole.
    detached: true
  })
  child.stderr.on('data', (text) => onMessage(String(text)))
  const closed = once(child, 'close')
  const isAlive = () => child.exitCode === null && child.signalCode === null
  const signalAll = (signal: NodeJS.Signals): void => {
    if (isAlive()) process.kill(-(child.pid as number), signal)
  }
  const onExit = () => signalAll('SIGTERM')
  process.once('exit', onExit)
  await accepting(port, program, isAlive)
  return {
    async end(signal) {
      process.off('exit', onExit)
      signalAll(signal)
      await closed
    }
  }
}

/** Servers do not say when they listen. */
async function accepting(port: number, program: string, isAlive: () => boolean): Promise<void> {
  while (isAlive()) {
    const socket = connect(port, '127.0.0.1')
    const connected = await once(socket, 'connect').then(
      () => true,
      () => false
    )
    socket.destroy()
    if (connected) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`${program} has ended: see its message above`)
}
