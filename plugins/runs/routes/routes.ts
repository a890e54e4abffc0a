import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Internals, SourceContext } from '../../csv-export/index.ts'
import { viewerOf } from '../../csv-export/options/http.ts'
import {
  CSV_EXPORT_INVALID_IDEMPOTENCY_KEY,
  CSV_EXPORT_RUN_EXPIRED,
  CSV_EXPORT_RUN_IS_OPEN,
  CSV_EXPORT_RUN_NOT_SUCCEEDED,
  CSV_EXPORT_RUN_OPEN,
  CSV_EXPORT_UNKNOWN_RUN
} from '../errors.ts'
import type { FileStore } from '../files/files.ts'
import type { Report } from '../report.ts'
import type { RunRow, Runs } from '../runs.ts'
import type { RunWatch } from '../watch.ts'
import { isOpen } from '../worker.ts'
import { sendRunFile } from './files.ts'
import { preferencesOf } from './prefer.ts'
import { toRun } from './run-reply.ts'

export interface RoutesOptions {
  reports: ReadonlyMap<string, Report>
  owner: (request: FastifyRequest) => string
  runs: Runs
  files: FileStore
  watch: RunWatch
  internals: Internals
  create(
    report: Report,
    owner: string,
    parameters: unknown,
    viewer: unknown,
    key: string | undefined
  ): Promise<RunRow>
  cancel(run: RunRow): Promise<void>
  remove(run: RunRow): Promise<void>
}

/** Seconds after which to look again. */
const retryAfter = 1
/** Seconds: what a client may have itself wait, as proxies cut silent connections. */
const longestWait = 60

const idSchema = { type: 'string', pattern: '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' }
const ofRun = { params: { type: 'object', properties: { id: idSchema } } }
const ofFile = { params: { type: 'object', properties: { id: idSchema, fileId: idSchema } } }
const listQuery = {
  type: 'object',
  additionalProperties: false,
  properties: { limit: { type: 'integer', minimum: 1, maximum: 1_000, default: 100 }, before: idSchema }
}

type OfRun = { Params: { id: string } }

export async function routes(app: FastifyInstance, options: RoutesOptions): Promise<void> {
  for (const report of options.reports.values()) addReport(app, report, options)
  const { owner, runs, watch } = options

  /** Others' runs do not exist. */
  async function ownRun(request: FastifyRequest<OfRun>): Promise<RunRow> {
    const { id } = request.params
    const run = await runs.get(id)
    if (run === undefined || run.owner !== owner(request)) throw new CSV_EXPORT_UNKNOWN_RUN(id)
    return run
  }

  /** Waits for its end, as long as the client asks. */
  async function settled(run: RunRow, request: FastifyRequest): Promise<RunRow> {
    const { wait = 0 } = preferencesOf(request)
    if (wait === 0 || !isOpen(run)) return run
    const latest = await waitForEnd(watch, run, Math.min(wait, longestWait) * 1_000, request.signal)
    return latest ?? run
  }

  app.get('/runs', { schema: { querystring: listQuery } }, async (request, reply) => {
    const { limit, before } = request.query as { limit: number; before?: string }
    const rows = await runs.list(owner(request), limit, before)
    const last = rows.length === limit ? rows.at(-1)?.id : undefined
    if (last !== undefined)
      reply.header('link', `<${app.prefix}/runs?limit=${limit}&before=${last}>; rel="next"`)
    reply.header('cache-control', 'no-store')
    return rows.map((row) => toRun(row, app.prefix))
  })

  app.get<OfRun>('/runs/:id', { schema: ofRun }, async (request, reply) => {
    const run = await settled(await ownRun(request), request)
    if (isOpen(run)) reply.header('retry-after', retryAfter)
    return reply.header('cache-control', 'no-store').send(toRun(run, app.prefix))
  })

  app.post<OfRun>('/runs/:id/cancel', { schema: ofRun }, async (request, reply) => {
    const run = await ownRun(request)
    await options.cancel(run)
    reply.header('cache-control', 'no-store')
    return toRun((await runs.get(run.id)) ?? run, app.prefix)
  })

  app.delete<OfRun>('/runs/:id', { schema: ofRun }, async (request, reply) => {
    const run = await ownRun(request)
    if (isOpen(run)) throw new CSV_EXPORT_RUN_IS_OPEN(run.id)
    await options.remove(run)
    return reply.code(204).send()
  })

  app.get<OfRun>('/runs/:id/result', { schema: ofRun }, async (request, reply) => {
    const run = await settled(await ownRun(request), request)
    reply.header('cache-control', 'no-store')
    checkSucceeded(run, reply)
    return reply.redirect(`${app.prefix}/runs/${run.id}/files/${run.file_id}`, 303)
  })

  app.get<{ Params: { id: string; fileId: string } }>(
    '/runs/:id/files/:fileId',
    { schema: ofFile },
    async (request, reply) => {
      const run = await ownRun(request)
      const { fileId } = request.params
      checkSucceeded(run, reply)
      // Of an attempt before: what the client has of it is no part of this file.
      if (run.file_id !== fileId.toLowerCase()) throw new CSV_EXPORT_RUN_EXPIRED(run.id)
      const csv = options.reports.get(run.report)?.csv ?? {}
      return sendRunFile(request, reply, run, csv, options)
    }
  )
}

function addReport(app: FastifyInstance, report: Report, { owner, create, internals }: RoutesOptions): void {
  const { name, parameters, rows, csv } = report
  const viewer = report.viewer ?? csv.viewer ?? internals.registered.viewer

  async function accept(request: FastifyRequest, reply: FastifyReply, given: unknown): Promise<FastifyReply> {
    const key = keyOf(request)
    const run = await create(report, owner(request), given, viewerOf({ viewer }, request), key)
    const location = `${app.prefix}/runs/${run.id}`
    return reply
      .code(202)
      .header('location', location)
      .header('retry-after', retryAfter)
      .header('cache-control', 'no-store')
      .send(toRun(run, app.prefix))
  }

  app.get(
    `/reports/${name}.csv`,
    { schema: { querystring: parameters }, attachValidation: true },
    (request, reply) => {
      checkParameters(request)
      reply.header('vary', 'Prefer')
      if (preferencesOf(request).respondAsync) {
        return accept(request, reply.header('preference-applied', 'respond-async'), request.query)
      }
      const open = (context: SourceContext) =>
        rows({ ...context, parameters: request.query, viewer: context.viewer })
      return reply.csv(open, { ...csv, viewer })
    }
  )

  app.post(
    `/reports/${name}/runs`,
    { schema: { body: parameters }, attachValidation: true, preValidation: fillBody },
    (request, reply) => {
      checkParameters(request)
      return accept(request, reply, request.body)
    }
  )
}

/** No body asks for a report without parameters. */
async function fillBody(request: FastifyRequest): Promise<void> {
  request.body ??= {}
}

/** The same words wherever the parameters stand. */
function checkParameters({ validationError }: FastifyRequest): void {
  if (validationError === undefined) return
  validationError.message = validationError.message.replace(/^(querystring|body)/, 'parameters')
  throw validationError
}

function keyOf({ headers }: FastifyRequest): string | undefined {
  const key = headers['idempotency-key']
  if (key === undefined) return undefined
  if (typeof key !== 'string' || key.length === 0 || key.length > 255)
    throw new CSV_EXPORT_INVALID_IDEMPOTENCY_KEY()
  return key
}

function checkSucceeded(run: RunRow, reply: FastifyReply): void {
  const { id, state, error_code } = run
  if (isOpen(run)) {
    reply.header('retry-after', retryAfter)
    throw new CSV_EXPORT_RUN_OPEN(id, state)
  }
  if (state === 'expired') throw new CSV_EXPORT_RUN_EXPIRED(id)
  if (state !== 'succeeded') {
    throw new CSV_EXPORT_RUN_NOT_SUCCEEDED(id, state, error_code === null ? '' : `: ${error_code}`)
  }
}

/** @returns nothing if it has not ended in time */
function waitForEnd(
  watch: RunWatch,
  { id }: RunRow,
  milliseconds: number,
  signal: AbortSignal
): Promise<RunRow | undefined> {
  return new Promise((resolve) => {
    const timer = setTimeout(end, milliseconds)
    const unwatch = watch.watch(id, (run) => {
      if (run === undefined || !isOpen(run)) end(run)
    })
    signal.addEventListener('abort', onAbort)
    function onAbort(): void {
      end()
    }
    function end(run?: RunRow): void {
      clearTimeout(timer)
      unwatch()
      signal.removeEventListener('abort', onAbort)
      resolve(run)
    }
  })
}
