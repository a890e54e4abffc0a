import type { FastifyRequest } from 'fastify'
import { checkOptions, ofFastify } from '../csv-export/options/check.ts'
import {
  boolean,
  count,
  type DefaultsOf,
  defaultsOf,
  defined,
  fullString,
  func,
  isPlainObject,
  isString,
  type OptionsOf,
  option,
  refusal,
  rule
} from '../csv-export/options/option.ts'
import type { FileStore } from './files/files.ts'
import type { Report } from './report.ts'
import type { Run } from './routes/run-reply.ts'

/**
 * Options of the plugin. A wrong one is refused at registration: CSV_EXPORT_INVALID_OPTION, CSV_EXPORT_UNKNOWN_OPTION.
 * @example
 * await app.register(csvExport)
 * await app.register(csvRuns, {
 *   connectionString: process.env.DATABASE_URL,
 *   reports: [orders],
 *   owner: (request) => request.user.id
 * })
 */
export interface RunsOptions {
  /** Of the PostgreSQL that has the queue, the table of runs, and by default their files. */
  connectionString: string
  /** Each by `defineReport()`, under a name of its own. */
  reports: readonly Report[]
  /**
   * Whose a run is, as a string of 1 to 500 characters: who else asks for it gets a 404. `'public'` says that everybody may see every
   * run. What it throws is the reply.
   */
  owner: ((request: FastifyRequest) => string) | 'public'
  /** Runs that this process makes at a time; 0 for one that only takes requests. @default 1 */
  concurrency?: number | undefined
  /** Whether there are routes; a worker needs none. @default true */
  routes?: boolean | undefined
  /** @default a PostgresFiles in the same database */
  files?: FileStore | undefined
  /**
   * What the paths of the routes begin with, below the prefix of the context; a worker's `onFinished` needs it too. Neither has
   * parameters (`/:tenant`), empty segments, or what a URL would have to escape. @default ''
   */
  prefix?: string
  /** Schema of the tables; that of the queue is `<schema>_queue`. @default 'csv_export' */
  schema?: string | undefined
  /** Whether a connection listens for new runs; else they are found by polling alone, as behind PgBouncer. @default true */
  notify?: boolean | undefined
  /** Milliseconds for which a file is kept after its run's end. @default 86400000 (a day) */
  keepFor?: number | undefined
  /**
   * Most bytes of a file, where neither the report nor the registration of csvExport says so: CSV_EXPORT_MAX_BYTES ends the run.
   * 0 is no limit. @default 1073741824 (1 GiB)
   */
  maxBytes?: number | undefined
  /** Most open runs of an owner; over it 429, CSV_EXPORT_TOO_MANY_RUNS. 0 is no limit. @default 10 */
  maxOpenPerOwner?: number | undefined
  /**
   * Most bytes kept of an owner; over it 429, and a run ends: CSV_EXPORT_TOO_MANY_BYTES_OF_OWNER. 0 is no limit.
   * @default 10737418240 (10 GiB)
   */
  maxBytesPerOwner?: number | undefined
  /**
   * Most bytes kept in all; over it 507, and a run ends: CSV_EXPORT_TOO_MANY_BYTES. 0 is no limit.
   * @default 53687091200 (50 GiB)
   */
  maxBytesKept?: number | undefined
  /**
   * Called with each run that has ended, at least once, in one of the processes that make runs and are given it. What it throws
   * is logged, and has it called again, ten times at most. One at a time: what takes long, say, to mail a file, holds up the
   * others. A process that closes waits 5 seconds for it, and leaves it to another one. @default none
   */
  onFinished?: ((run: Run) => unknown) | undefined
}

/**
 * It begins what `Location` and links say: two slashes would name a host. Who tells of a run need not have a request, so there
 * are no parameters.
 */
export const pathPrefix = rule<string>(
  (value) => isString(value) && /^(\/[\w.~!$&'()+,;=@-]+)*$/.test(value),
  `'' or a path such as "/api", without parameters, with letters, digits and -._~!$&'()+,;=@ between its slashes`
)

const fileStore = ['create', 'read', 'discard', 'list']

export const runsOptions = {
  connectionString: option(fullString),
  reports: option(
    rule<readonly Report[]>(
      (value) =>
        Array.isArray(value) &&
        value.every(isReport) &&
        new Set(value.map(({ name }) => name)).size === value.length,
      'an array of what defineReport() gives, each with a name of its own'
    )
  ),
  owner: option(
    rule<(request: FastifyRequest) => string>(
      (value) => value === 'public' || typeof value === 'function',
      `a function of the request, or 'public'`
    )
  ),
  concurrency: option(count, 1),
  routes: option(boolean, true),
  files: option(
    rule<FileStore>(
      (value) => isPlainObject(value) && fileStore.every((name) => typeof value[name] === 'function'),
      `an object with the functions ${fileStore.join(', ')}, such as new PostgresFiles()`
    )
  ),
  prefix: option(pathPrefix, ''),
  schema: option(
    rule<string>(
      (value) => isString(value) && /^[a-z_][a-z0-9_]{0,39}$/.test(value),
      'up to 40 lower-case letters, digits and "_", no digit first'
    ),
    'csv_export'
  ),
  notify: option(boolean, true),
  keepFor: option(count, 86_400_000),
  maxBytes: option(count, 1_073_741_824),
  maxOpenPerOwner: option(count, 10),
  maxBytesPerOwner: option(count, 10_737_418_240),
  maxBytesKept: option(count, 53_687_091_200),
  onFinished: option(func)
} satisfies OptionsOf<RunsOptions>

export type RunsSettings = RunsOptions & DefaultsOf<typeof runsOptions>

/** Throws CSV_EXPORT_UNKNOWN_OPTION or CSV_EXPORT_INVALID_OPTION for the first option that is wrong. */
export function checkRunsOptions(options: unknown): asserts options is RunsOptions {
  const { prefix, ...others } = ofFastify
  checkOptions(options, { ...others, ...runsOptions }, ['connectionString', 'reports', 'owner'])
}

/** With every default filled in. */
export function settingsOf(options: RunsOptions): RunsSettings {
  return { ...defaultsOf(runsOptions), ...defined(options) } as RunsSettings
}

/** UTF-16 code units: in UTF-8 at most three times as many bytes, and an entry of an index takes 2,704, with a key beside it. */
const longestOwner = 500

/** What PostgreSQL would keep in another way would be somebody else's, too. */
const ownerName = rule<string>(
  (value) =>
    fullString.accepts(value) &&
    value.length <= longestOwner &&
    value.isWellFormed() &&
    !value.includes('\0'),
  `a string of 1 to ${longestOwner} characters that UTF-8 can hold, without U+0000`
)

/** Asks whose a request is. A promise, say, would be nobody's: everybody's. */
export function ownerOf({ owner }: Pick<RunsOptions, 'owner'>, request: FastifyRequest): string {
  const value = owner === 'public' ? owner : owner(request)
  if (!ownerName.accepts(value))
    throw refusal('owner', `a function that returns ${ownerName.expected}`, value)
  return value
}

function isReport(value: unknown): boolean {
  return isPlainObject(value) && typeof value.rows === 'function' && isPlainObject(value.csv)
}
