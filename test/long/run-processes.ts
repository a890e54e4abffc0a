import { type ChildProcess, spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'

/** A line of a process's log about a run. */
export interface RunLine {
  msg: string
  run: { id: string; attempt: number; state: string }
  time: number
}

/** A process of the long tests, which can be killed and started again. */
export class RunProcess extends EventEmitter<{ run: [RunLine] }> {
  #child: ChildProcess | undefined
  /** Where a web process answers. */
  url = ''
  readonly #role: 'web' | 'worker'
  readonly #databaseUrl: string
  readonly #env: Record<string, string>

  constructor(t: Test, role: 'web' | 'worker', databaseUrl: string, env: Record<string, string> = {}) {
    super()
    this.#role = role
    this.#databaseUrl = databaseUrl
    this.#env = env
    t.teardown(() => this.kill('SIGKILL'))
  }

  get pid(): number {
    return this.#child?.pid as number
  }

  /** Resolves when it is ready; a process that cannot start, as its database is away, is started again. */
  async start(): Promise<void> {
    for (;;) {
      const child = spawn(process.execPath, ['run-server.ts', this.#role, this.#databaseUrl], {
        cwd: import.meta.dirname,
        env: { ...process.env, ...this.#env },
        stdio: ['ignore', 'pipe', 'pipe']
      })
      this.#child = child
      let failure = ''
      child.stderr.on('data', (data) => (failure += data))
      const lines = createInterface(child.stdout)
      const ready = new Promise<boolean>((resolve) => {
        lines.on('line', (text) => {
          const line = JSON.parse(text)
          if (line.run !== undefined) this.emit('run', line)
          if (line.ready === undefined) return
          if (line.url) this.url = line.url
          resolve(true)
        })
        child.once('exit', () => resolve(false))
      })
      if (await ready) return
      this.#child = undefined
      if (!/ECONN|terminat|starting up|shutting down|57P03|recovery/.test(failure)) throw new Error(failure)
      await sleep(200)
    }
  }

  /** Resolves when it is gone. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, 'exit')
    child.kill('SIGCONT')
    child.kill(signal)
    await exit
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }
}
