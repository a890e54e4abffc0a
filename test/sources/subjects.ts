import type { Subject } from './subject.ts'
import { duckdb } from './subjects/duckdb.ts'
import { fetchNdjson } from './subjects/fetch.ts'
import { knexJs } from './subjects/knex.ts'
import { mysql2 } from './subjects/mysql2.ts'
import { pgCopy, pgCursor } from './subjects/pg.ts'
import { pgQueryStream } from './subjects/pg-query-stream.ts'
import { postgresJs } from './subjects/postgres.ts'
import { prisma } from './subjects/prisma.ts'
import { drizzleOrm, kysely, typeorm } from './subjects/query-builders.ts'
import { sequelizeOrm } from './subjects/sequelize.ts'
import { betterSqlite3, nodeSqlite } from './subjects/sqlite.ts'

export const subjects: Subject[] = [
  pgCursor,
  pgCopy,
  pgQueryStream,
  postgresJs,
  knexJs,
  kysely,
  drizzleOrm,
  typeorm,
  sequelizeOrm,
  prisma,
  mysql2,
  nodeSqlite,
  betterSqlite3,
  duckdb,
  fetchNdjson
]
