import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../../database/embedded-postgres.ts'
import { WAIT, WHOLE_ROWS } from '../subject.ts'
import type { Engine, Watch } from './engine.ts'

/** The functions say that they are stable, and dear, so that a page runs them for the rows alone that it gives. */
const schema = `
  CREATE TABLE numbers (n integer PRIMARY KEY, text text NOT NULL);
  INSERT INTO numbers SELECT n, repeat('x', 100) || n FROM generate_series(1, 300000) n;
  CREATE FUNCTION wait_at(n integer, text text) RETURNS text STABLE COST 100000 LANGUAGE plpgsql AS $$
    BEGIN IF n = 3050 THEN PERFORM pg_sleep(${WAIT / 1_000}); END IF; RETURN text; END $$;
  CREATE FUNCTION fail_at(n integer, text text) RETURNS text STABLE COST 100000 LANGUAGE plpgsql AS $$
    BEGIN PERFORM 1 / (15050 - n); RETURN text; END $$;
  CREATE VIEW few AS SELECT n, text FROM numbers WHERE n <= 10;
  CREATE VIEW whole AS SELECT n, text FROM numbers WHERE n <= ${WHOLE_ROWS};
  CREATE VIEW failing AS SELECT n, fail_at(n, text) AS text FROM numbers WHERE n <= ${WHOLE_ROWS};
  CREATE VIEW big AS SELECT n, text FROM numbers;
  CREATE VIEW waiting AS SELECT n, wait_at(n, text) AS text FROM numbers WHERE n <= 6000;
  ANALYZE numbers`

export async function startPostgres(): Promise<Engine> {
  const folder = await mkdtemp(join(tmpdir(), 'csv-export-sources-'))
  const postgres = await startEmbeddedPostgres({ folder })
  const client = new pg.Client({ connectionString: postgres.url })
  await client.connect()
  await client.query(schema)
  const { rows } = await client.query('SHOW server_version')
  await client.end()
  return {
    url: postgres.url,
    version: rows[0].server_version,
    async stop() {
      await postgres.stop()
      await rm(folder, { recursive: true, force: true })
    }
  }
}

export async function watchPostgres(url: string): Promise<Watch> {
  const client = new pg.Client({ connectionString: url, application_name: 'watch' })
  await client.connect()
  const others =
    "FROM pg_stat_activity WHERE application_name <> 'watch' AND pid <> pg_backend_pid() AND state <> 'idle' AND query ~ $1"
  const count = async (condition: string, view: string) =>
    (await client.query(`SELECT count(*)::integer AS n ${others} ${condition}`, [`\\y${view}\\y`])).rows[0].n
  return {
    running: (view) => count('', view),
    sleeping: () => count("AND wait_event = 'PgSleep'", 'waiting'),
    async kill(view) {
      await client.query(`SELECT pg_terminate_backend(pid) ${others}`, [`\\y${view}\\y`])
    },
    close: () => client.end()
  }
}
