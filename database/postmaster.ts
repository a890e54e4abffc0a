import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PostgresPrograms } from './postgres-programs.ts'

const settings = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  lc_messages: 'C',
  // Sample data: the last moment before a power cut may be lost, the database stays whole.
  synchronous_commit: 'off',
  max_wal_size: '2GB'
}

/** Longest pause between two attempts to start a PostgreSQL that was killed, in milliseconds. */
const longestPause = 5_000

/** PostgreSQL's main process. One that was killed is started again on its port, so that clients find it where it was. */
export class Postmaster {
  readonly port: number
  readonly #run: PostgresPrograms['run']
  readonly #data: string
  readonly #log: (line: string) => void
  #child: ChildProcess | undefined
  #stopped = false

  private constructor(run: PostgresPrograms['run'], data: string, port: number, log: (line: string) => void) {
    this.#run = run
    this.#data = data
    this.port = port
    this.#log = log
  }

  /** Starts on a free port, and resolves when connections are accepted. */
  static async start(
    { run }: PostgresPrograms,
    data: string,
    log: (line: string) => void
  ): Promise<Postmaster> {
    for (let attempt = 1; ; attempt++) {
      const postmaster = new Postmaster(run, data, await freePort(), log)
      try {
        await postmaster.#launch()
        process.on('exit', postmaster.#killWithParent)
        return postmaster
      } catch (error) {
        // Another process may have taken the port, and what a killed server leaves behind takes a moment to end.
        if (attempt === 5 || !/could not create any TCP|shared memory block/.test(String(error))) throw error
        await sleep(200 * attempt)
      }
    }
  }

  get pid(): number {
    return this.#child?.pid as number
  }

  /** SIGINT is PostgreSQL's fast shutdown: it ends open connections instead of waiting for them. */
  async stop(): Promise<void> {
    this.#stopped = true
    process.off('exit', this.#killWithParent)
    const child = this.#child as ChildProcess
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGINT')
    await exited
  }

  readonly #killWithParent = (): void => void this.#child?.kill('SIGINT')

  async #launch(): Promise<void> {
    const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const child = this.#run('postgres', ['-D', this.#data, '-p', String(this.port), ...flags])
    this.#child = child
    await ready(child, this.#log)
    child.once('exit', (code) => {
      // Status 0 is a shutdown that somebody asked for.
      if (code !== 0) this.#relaunch()
    })
  }

  async #relaunch(): Promise<void> {
    for (let pause = 100; !this.#stopped; pause = Math.min(2 * pause, longestPause)) {
      try {
        await this.#launch()
        return
      } catch (error) {
        this.#log(`PostgreSQL cannot be started again yet: ${error}`)
        await sleep(pause)
      }
    }
  }
}

function ready(child: ChildProcess, log: (line: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const output: string[] = []
    child.once('error', reject)
    child.once('close', () => reject(new Error(`PostgreSQL did not start: ${output.join('\n')}`)))
    createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', (line) => {
      log(line)
      if (output.length < 50) output.push(line)
      if (line.includes('database system is ready to accept connections')) resolve()
    })
  })
}

/** A port that nobody listens on right now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
