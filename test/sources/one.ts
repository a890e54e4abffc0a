/** Measures one way of one library, in a process of its own: a trap may keep it from ending. */

import type { Watch } from './engines/engine.ts'
import { watchHttp } from './engines/http.ts'
import { watchMariaDb } from './engines/mariadb.ts'
import { watchPostgres } from './engines/postgres.ts'
import { watchSqlite } from './engines/sqlite.ts'
import { measure } from './measure.ts'
import type { EngineName } from './subject.ts'
import { subjects } from './subjects.ts'

const watches: Record<EngineName, (url: string) => Promise<Watch | undefined>> = {
  PostgreSQL: watchPostgres,
  MariaDB: watchMariaDb,
  SQLite: watchSqlite,
  DuckDB: async () => undefined,
  HTTP: watchHttp
}

const [name, kind, url = ''] = process.argv.slice(2) as [string, 'recipe' | 'documented', string]
const subject = subjects.find((subject) => subject.name === name)
const open = subject?.[kind]
if (subject === undefined || open === undefined) throw new Error(`no ${kind} of ${name}`)
const watch = await watches[subject.engine](url)
const outcome = await measure(() => open(watch?.url ?? url), watch)
process.send?.(outcome, () => process.exit())
