import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { toError } from '../../csv-export/guard.ts'
import { CSV_EXPORT_DATABASE_UNAVAILABLE } from '../../pg/errors.ts'
import {
  CSV_EXPORT_FILES_UNAVAILABLE,
  CSV_EXPORT_RUN_EXPIRED,
  CSV_EXPORT_RUN_IS_OPEN,
  CSV_EXPORT_RUN_NOT_SUCCEEDED,
  CSV_EXPORT_RUN_OPEN,
  CSV_EXPORT_UNKNOWN_RUN
} from '../errors.ts'
import type { FileStore } from '../files/files.ts'
import type { Report } from '../report.ts'
import { isOpen, type RunRow, type Runs } from '../table/runs.ts'
import { isOfBucket, isTransient } from '../transient.ts'
import type { RunWatch } from '../watch.ts'
import { sendRunFile } from './files.ts'
import { withParameters } from './parameters.ts'
import { preferencesOf } from './prefer.ts'
import { addReport, type ReportRoutesOptions } from './reports.ts'
import { retryAfter, toRun } from './run-reply.ts'
import { goneOf, longestWait, Waiting } from './waiting.ts'

export interface RoutesOptions extends ReportRoutesOptions {
  reports: ReadonlyMap<string, Report>
  runs: Runs
  files: FileStore
  watch: RunWatch
  cancel(run: RunRow): Promise<void>
  remove(run: RunRow): Promise<void>
}

const uuid = '[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}'
const idSchema = { type: 'string', pattern: `^${uuid}$` }
const ofRun = { params: { type: 'object', properties: { id: idSchema } } }
const ofFile = { params: { type: 'object', properties: { id: idSchema, fileId: idSchema } } }
const listQuery = {
  type: 'object',
  additionalProperties: false,
  properties: {
    limit: { type: 'integer', minimum: 1, maximum: 1_000, default: 100 },
    before: { type: 'string', pattern: `^\\d{1,14}_${uuid}$` }
  }
}

type OfRun = { Params: { id: string } }

export async function routes(app: FastifyInstance, options: RoutesOptions): Promise<void> {
  for (const report of options.reports.values()) addReport(app, report, options)
  const { owner, runs, watch, pathPrefix } = options
  const waiting = new Waiting(runs, watch)
  app.setErrorHandler((thrown, _request, reply) => {
    // Of what is no Error, thrown on, Fastify makes a reply that says 200.
    const error: Partial<FastifyError> = toError(thrown)
    if (error.statusCode !== undefined || !isTransient(error)) throw error
    reply.header('retry-after', retryAfter)
    const cause = { cause: error }
    throw isOfBucket(error)
      ? new CSV_EXPORT_FILES_UNAVAILABLE(cause)
      : new CSV_EXPORT_DATABASE_UNAVAILABLE(cause)
  })
  app.addHook('preClose', async () => waiting.close())

  /** Others' runs do not exist. */
  async function ownRun(request: FastifyRequest<OfRun>): Promise<RunRow> {
    // First, as what it throws must not say whether there is such a run.
    const asker = owner(request)
    const { id } = request.params
    const run = await runs.get(id)
    if (run?.owner !== asker) throw new CSV_EXPORT_UNKNOWN_RUN(id)
    return run
  }

  /** Waits for its end, as long as the client asks. */
  async function settledRun(request: FastifyRequest<OfRun>, reply: FastifyReply): Promise<RunRow> {
    const gone = goneOf(reply)
    const { wait = 0 } = preferencesOf(request)
    if (wait > 0) reply.header('preference-applied', `wait=${Math.min(wait, longestWait)}`)
    const run = await waiting.settled(await ownRun(request), wait, gone)
    if (run === undefined) throw new CSV_EXPORT_UNKNOWN_RUN(request.params.id)
    return run
  }

  app.get('/runs', withParameters({ querystring: listQuery }), async (request, reply) => {
    const { limit, before } = request.query as { limit: number; before?: string }
    const place = before === undefined ? undefined : placeOf(before)
    const { page, hasMore } = await runs.list(owner(request), limit, place)
    if (hasMore) {
      const end = pageEndOf(page.at(-1) as RunRow)
      reply.header('link', `<${pathPrefix}/runs?limit=${limit}&before=${end}>; rel="next"`)
    }
    reply.header('cache-control', 'no-store')
    return page.map((row) => toRun(row, pathPrefix))
  })

  app.get<OfRun>('/runs/:id', { schema: ofRun }, async (request, reply) => {
    const run = await settledRun(request, reply)
    if (isOpen(run)) reply.header('retry-after', retryAfter)
    return reply.header('cache-control', 'no-store').send(toRun(run, pathPrefix))
  })

  app.post<OfRun>('/runs/:id/cancel', { schema: ofRun }, async (request, reply) => {
    await options.cancel(await ownRun(request))
    reply.header('cache-control', 'no-store')
    return toRun(await ownRun(request), pathPrefix)
  })

  app.delete<OfRun>('/runs/:id', { schema: ofRun }, async (request, reply) => {
    const run = await ownRun(request)
    if (isOpen(run)) throw new CSV_EXPORT_RUN_IS_OPEN(run.id)
    await options.remove(run)
    return reply.code(204).send()
  })

  app.get<OfRun>('/runs/:id/result', { schema: ofRun }, async (request, reply) => {
    const run = await settledRun(request, reply)
    reply.header('cache-control', 'no-store')
    checkSucceeded(run, reply)
    return reply.redirect(`${pathPrefix}/runs/${run.id}/files/${run.file_id}`, 303)
  })

  app.route<{ Params: { id: string; fileId: string } }>({
    // Clients that fetch a file in parts begin with a HEAD. To the one that Fastify would add, a 304 has a length.
    method: ['GET', 'HEAD'],
    url: '/runs/:id/files/:fileId',
    schema: ofFile,
    async handler(request, reply) {
      const run = await ownRun(request)
      const { fileId } = request.params
      checkSucceeded(run, reply)
      // Of an attempt before: what the client has of it is no part of this file.
      if (run.file_id !== fileId.toLowerCase()) throw new CSV_EXPORT_RUN_EXPIRED(run.id)
      const csv = options.reports.get(run.report)?.csv ?? {}
      return sendRunFile(request, reply, run, csv, options)
    }
  })
}

/** Where a page ends: a place, and no run, as that may be deleted before the next page is asked for. */
function pageEndOf({ created_at, id }: RunRow): string {
  return `${Date.parse(created_at)}_${id}`
}

function placeOf(pageEnd: string): { createdAt: number; id: string } {
  const [createdAt, id] = pageEnd.split('_') as [string, string]
  return { createdAt: Number(createdAt), id }
}

function checkSucceeded(
  run: RunRow,
  reply: FastifyReply
): asserts run is RunRow & { file_id: string; sha256: string } {
  const { id, state, error_code } = run
  if (isOpen(run)) {
    reply.header('retry-after', retryAfter)
    throw new CSV_EXPORT_RUN_OPEN(id, state)
  }
  if (state === 'expired') throw new CSV_EXPORT_RUN_EXPIRED(id)
  if (state !== 'succeeded') throw new CSV_EXPORT_RUN_NOT_SUCCEEDED(id, state, String(error_code))
}
