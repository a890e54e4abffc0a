import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import mysql from 'mysql2/promise'
import { WAIT, WHOLE_ROWS } from '../subject.ts'
import type { Engine, Watch } from './engine.ts'

const schema = `
  CREATE DATABASE sources; USE sources;
  CREATE TABLE numbers (n integer PRIMARY KEY, text varchar(200) NOT NULL);
  INSERT INTO numbers SELECT seq, CONCAT(REPEAT('x', 100), seq) FROM seq_1_to_300000;
  CREATE FUNCTION fail_at(n integer, text varchar(200)) RETURNS varchar(200) DETERMINISTIC
    BEGIN IF n = 15050 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'row 15050 fails'; END IF; RETURN text; END;
  CREATE VIEW few AS SELECT n, text FROM numbers WHERE n <= 10;
  CREATE VIEW whole AS SELECT n, text FROM numbers WHERE n <= ${WHOLE_ROWS};
  CREATE VIEW failing AS SELECT n, fail_at(n, text) AS text FROM numbers WHERE n <= ${WHOLE_ROWS};
  CREATE VIEW big AS SELECT n, text FROM numbers;
  CREATE VIEW waiting AS SELECT n, CONCAT(text, IF(n = 3050 AND SLEEP(${WAIT / 1_000}), '', '')) AS text
    FROM numbers WHERE n <= 6000`

/** On a socket in a folder of its own: it takes no port. */
export async function startMariaDb(): Promise<Engine> {
  const folder = await mkdtemp(join(tmpdir(), 'csv-export-sources-'))
  const data = join(folder, 'data')
  const socket = join(folder, 'socket')
  const user = process.getuid?.() === 0 ? ['--user=root'] : []
  execFileSync(
    'mariadb-install-db',
    [
      '--no-defaults',
      `--datadir=${data}`,
      '--auth-root-authentication-method=normal',
      '--skip-test-db',
      ...user
    ],
    { stdio: 'ignore' }
  )
  const child = spawn(
    'mariadbd',
    ['--no-defaults', `--datadir=${data}`, `--socket=${socket}`, '--skip-networking', ...user],
    { stdio: ['ignore', 'ignore', 'pipe'] }
  )
  const exited = once(child, 'exit')
  process.once('exit', () => child.kill())
  await ready(child.stderr)
  const url = `mysql://root@localhost/sources?socketPath=${socket}`
  const client = await mysql.createConnection({ user: 'root', socketPath: socket, multipleStatements: true })
  await client.query(schema)
  const [[{ version }]] = (await client.query('SELECT version() AS version')) as any
  await client.end()
  return {
    url,
    version: version.replace(/-.*/, ''),
    async stop() {
      child.kill()
      await exited
      await rm(folder, { recursive: true, force: true })
    }
  }
}

async function ready(stderr: NodeJS.ReadableStream): Promise<void> {
  const lines: string[] = []
  for await (const line of createInterface({ input: stderr })) {
    lines.push(line)
    if (line.includes('ready for connections')) {
      stderr.resume()
      return
    }
  }
  throw new Error(`mariadbd has ended: ${lines.join('\n')}`)
}

/** As options, since mysql2 takes no socket from a URL. */
export function options(url: string) {
  return {
    user: 'root',
    database: 'sources',
    socketPath: new URL(url).searchParams.get('socketPath') as string
  }
}

export async function watchMariaDb(url: string): Promise<Watch> {
  const client = await mysql.createConnection(options(url))
  const ids = async (view: string, state: string): Promise<number[]> => {
    const [rows] = (await client.query(
      "SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND command = 'Query' AND info REGEXP ? AND state LIKE ?",
      [`\\b${view}\\b`, state]
    )) as any
    return rows.map(({ id }: { id: number }) => id)
  }
  return {
    running: async (view) => (await ids(view, '%')).length,
    sleeping: async () => (await ids('waiting', 'User sleep')).length,
    async kill(view) {
      for (const id of await ids(view, '%')) await client.query(`KILL ${id}`).catch(() => {})
    },
    close: () => client.end()
  }
}
