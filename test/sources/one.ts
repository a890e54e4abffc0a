/** Measures one way of one library, in a process of its own, which a trap may end or keep from ending. */
import { watchMariaDb } from './engines/mariadb.ts'
import { watchPostgres } from './engines/postgres.ts'
import { measure } from './measure.ts'
import { subjects } from './subjects.ts'

const [name, kind, url] = process.argv.slice(2) as [string, 'recipe' | 'documented', string]
const subject = subjects.find((subject) => subject.name === name)
const open = subject?.[kind]
if (subject === undefined || open === undefined) throw new Error(`no ${kind} of ${name}`)
const watches = { PostgreSQL: watchPostgres, MariaDB: watchMariaDb }
const watch = await watches[subject.engine as keyof typeof watches]?.(url)
process.send?.(await measure(() => open(url), watch))
process.exit()
