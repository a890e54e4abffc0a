import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import Database from 'better-sqlite3'
import { sqliteRows as betterRows } from '../recipes/better-sqlite3.ts'
import { sqliteRows as nodeRows } from '../recipes/node-sqlite.ts'
import { type Subject, type Way, WHOLE_ROWS } from '../subject.ts'

/** The file that `watchSqlite()` looks for. */
export const fileName = 'sources.db'

function makeFile(): { file: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'csv-export-sources-'))
  const file = join(folder, fileName)
  const database = new DatabaseSync(file)
  database.exec(`
    PRAGMA journal_mode = WAL;
    CREATE TABLE numbers (n INTEGER PRIMARY KEY, text TEXT NOT NULL);
    CREATE TABLE notes (text TEXT);
    INSERT INTO numbers
      WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 300000)
      SELECT n, '${'x'.repeat(100)}' || n FROM r;
    CREATE VIEW few AS SELECT n, text FROM numbers WHERE n <= 10;
    CREATE VIEW whole AS SELECT n, text FROM numbers WHERE n <= ${WHOLE_ROWS};
    CREATE VIEW big AS SELECT n, text FROM numbers;
    CREATE VIEW failing AS
      SELECT n, CASE WHEN n = 15050 THEN json(substr('{', 1, n)) ELSE text END AS text FROM numbers`)
  database.close()
  return { file, remove: () => rmSync(folder, { recursive: true }) }
}

const insert = "INSERT INTO notes VALUES ('written meanwhile')"

/** @param rows with a write in the midst of an export, as of another request */
function way(
  rows: (file: string, text: string) => Generator<object>,
  write: (file: string) => void,
  { file, remove }: ReturnType<typeof makeFile>
): Way {
  return {
    *rows(view) {
      let count = 0
      for (const row of rows(file, `SELECT n, text FROM ${view}`)) {
        if (++count === 5) write(file)
        yield row
      }
    },
    close: remove
  }
}

export const nodeSqlite: Subject = {
  name: 'node:sqlite',
  packages: [],
  engine: 'SQLite',
  traps: [],
  trap: 'a statement blocks the process',
  recipe() {
    const made = makeFile()
    const main = new DatabaseSync(made.file)
    return way(
      (file, text) => nodeRows(file, text, []),
      () => main.exec(insert),
      made
    )
  },
  documented() {
    const made = makeFile()
    const main = new DatabaseSync(made.file)
    return way(
      (_file, text) => main.prepare(text).iterate() as Generator<object>,
      () => main.exec(insert),
      made
    )
  }
}

export const betterSqlite3: Subject = {
  name: 'better-sqlite3',
  packages: ['better-sqlite3'],
  engine: 'SQLite',
  traps: ['whole'],
  trap: 'its connection takes no write while it gives rows; a statement blocks the process',
  recipe() {
    const made = makeFile()
    const main = new Database(made.file)
    return way(
      (file, text) => betterRows(file, text, []),
      () => main.exec(insert),
      made
    )
  },
  documented() {
    const made = makeFile()
    const main = new Database(made.file)
    return way(
      (_file, text) => main.prepare(text).iterate() as Generator<object>,
      () => main.exec(insert),
      made
    )
  }
}
