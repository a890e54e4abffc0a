import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { startEmbeddedPostgres } from '../../database/embedded-postgres.ts'
import { temporaryFolder } from '../database.ts'

const folder = await temporaryFolder(t)

async function query(url: string, text: string): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return await client.query(text)
  } finally {
    await client.end()
  }
}

t.test('a first start that was cut short is done again', async () => {
  await mkdir(join(folder, 'unfinished'))
  await writeFile(join(folder, 'unfinished', 'PG_VERSION'), '18\n')
  const { url, stop } = await startEmbeddedPostgres({ folder })
  await query(url, 'CREATE TABLE kept AS SELECT 1 AS one')
  await stop()
  await stop()
})

t.test('data is there again at the next start', async (t) => {
  const { url, stop } = await startEmbeddedPostgres({ folder })
  t.teardown(stop)
  t.strictSame((await query(url, 'SELECT * FROM kept')).rows, [{ one: 1 }])
  t.match((await query(url, 'SHOW server_version')).rows[0].server_version, /^18/)
})

t.test('a second process is told that the folder is in use', async (t) => {
  const { url, stop } = await startEmbeddedPostgres({ folder })
  t.teardown(stop)
  await t.rejects(startEmbeddedPostgres({ folder }), /is in use by another process.*DATABASE_URL/)
  t.equal((await query(url, 'SELECT 1')).rows.length, 1, 'and the first one still runs')
})

t.test('a folder of another user is not touched, and the message says what to do', async (t) => {
  t.intercept(process, 'getuid', { value: () => 12_345 })
  await t.rejects(startEmbeddedPostgres({ folder }), {
    message: `${folder} belongs to another user: remove it, or give a DATABASE_URL`
  })
})

const notRoot = process.getuid?.() !== 0 && 'root alone runs PostgreSQL as another user'
t.test('a folder that root has copied is used', { skip: notRoot }, async (t) => {
  const parent = await temporaryFolder(t)
  await chmod(parent, 0o755)
  const copy = join(parent, 'copy')
  await cp(folder, copy, { recursive: true })
  const { url, stop } = await startEmbeddedPostgres({ folder: copy })
  t.teardown(stop)
  t.strictSame((await query(url, 'SELECT * FROM kept')).rows, [{ one: 1 }])
})

t.test('a folder that was copied while in use is not taken for whole', async (t) => {
  const { stop } = await startEmbeddedPostgres({ folder })
  t.teardown(stop)
  const copy = join(await temporaryFolder(t), 'copy')
  await cp(folder, copy, { recursive: true })
  await t.rejects(
    startEmbeddedPostgres({ folder: copy }),
    /was copied from .*: remove it, or give a DATABASE_URL/
  )
})

t.test('two folders run side by side', async (t) => {
  const [one, two] = await Promise.all([
    startEmbeddedPostgres({ folder }),
    startEmbeddedPostgres({ folder: await temporaryFolder(t) })
  ])
  t.not(one.url, two.url)
  await Promise.all([one.stop(), two.stop()])
})

t.test('a PostgreSQL that was killed is started again with its data', async (t) => {
  const { pid, stop } = await startEmbeddedPostgres({ folder })
  process.kill(pid, 'SIGKILL')
  await stop()
  t.match(
    await readFile(join(folder, 'data', 'postmaster.pid'), 'utf8'),
    String(pid),
    'its file is left behind'
  )
  const again = await startEmbeddedPostgres({ folder })
  t.teardown(again.stop)
  t.strictSame((await query(again.url, 'SELECT * FROM kept')).rows, [{ one: 1 }])
})

/** The session that holds the folder for its process. */
async function ownerOf(url: string): Promise<number | undefined> {
  const { rows } = await query(url, "SELECT pid FROM pg_locks WHERE locktype = 'advisory'")
  return rows[0]?.pid
}

/** Asks until there is another owner: nothing else tells of it. */
async function untilOwnedAgain(url: string, before: number | undefined): Promise<void> {
  for (;;) {
    const owner = await ownerOf(url).catch(() => before)
    if (owner !== undefined && owner !== before) return
  }
}

t.test('a PostgreSQL that is killed while in use is started again at its address', async (t) => {
  const postgres = await startEmbeddedPostgres({ folder })
  t.teardown(postgres.stop)
  const { pid, url } = postgres
  const owner = await ownerOf(url)
  process.kill(pid, 'SIGKILL')
  await untilOwnedAgain(url, owner)
  t.not(postgres.pid, pid)
  t.strictSame((await query(url, 'SELECT * FROM kept')).rows, [{ one: 1 }])
  await t.rejects(startEmbeddedPostgres({ folder }), /is in use by another process/)
})

t.test('the folder stays owned when a crash has ended all sessions', async (t) => {
  const { url, stop } = await startEmbeddedPostgres({ folder })
  t.teardown(stop)
  const owner = (await ownerOf(url)) as number
  process.kill(owner, 'SIGKILL')
  await untilOwnedAgain(url, owner)
  await t.rejects(startEmbeddedPostgres({ folder }), /is in use by another process/)
})

t.test('a PostgreSQL that somebody else shuts down stays down', async (t) => {
  const postgres = await startEmbeddedPostgres({ folder })
  t.teardown(postgres.stop)
  const { pid, url } = postgres
  process.kill(pid, 'SIGINT')
  while (await ownerOf(url).catch(() => undefined));
  await postgres.stop()
  t.equal(postgres.pid, pid)
})

/** Starts it in a process of its own, which is killed. */
async function startAndKill(beforeKill: (url: string) => Promise<void> = async () => {}): Promise<number> {
  const plugin = import.meta.resolve('../../database/embedded-postgres.ts')
  const script = `
    const { startEmbeddedPostgres } = await import(${JSON.stringify(plugin)})
    const { pid, url } = await startEmbeddedPostgres({ folder: ${JSON.stringify(folder)} })
    console.log(JSON.stringify({ pid, url }))
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const [line] = await once(child.stdout, 'data')
  const { pid, url } = JSON.parse(line)
  await beforeKill(url)
  child.kill('SIGKILL')
  await once(child, 'exit')
  return pid
}

t.test('the PostgreSQL of a process that was killed is taken over', async (t) => {
  const pid = await startAndKill()
  const { url, pid: newPid, stop } = await startEmbeddedPostgres({ folder })
  t.teardown(stop)
  t.not(newPid, pid)
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
  t.strictSame((await query(url, 'SELECT * FROM kept')).rows, [{ one: 1 }])
})

t.test('it is taken over, too, when it hears late that the process is gone', async (t) => {
  let owner = 0
  const session = Promise.withResolvers<pg.Client>()
  const pid = await startAndKill(async (url) => {
    owner = (await ownerOf(url)) as number
    process.kill(owner, 'SIGSTOP')
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => {})
    await client.connect()
    session.resolve(client)
  })
  const client = await session.promise
  const starting = startEmbeddedPostgres({ folder })
  const waits = async (): Promise<boolean> =>
    (await client.query("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")).rows.length > 0
  while (!(await waits()));
  process.kill(owner, 'SIGCONT')
  const { pid: newPid, stop } = await starting
  t.teardown(stop)
  t.not(newPid, pid)
})
