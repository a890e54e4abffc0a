import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { SourceContext } from '../../csv-export/index.ts'
import type { Internals } from '../../csv-export/internals.ts'
import { throughJson, viewerOf } from '../../csv-export/options/http.ts'
import { addVary } from '../../csv-export/reply/headers.ts'
import { CSV_EXPORT_INVALID_IDEMPOTENCY_KEY } from '../errors.ts'
import type { Report } from '../report.ts'
import type { RunRow } from '../table/runs.ts'
import { withParameters } from './parameters.ts'
import { preferencesOf } from './prefer.ts'
import { retryAfter, toRun } from './run-reply.ts'

export interface ReportRoutesOptions {
  owner: (request: FastifyRequest) => string
  internals: Internals
  /** Of the routes, from the server's root on; no slash at its end, as two at the beginning of a path would name a host. */
  pathPrefix: string
  create(
    report: Report,
    owner: string,
    parameters: unknown,
    viewer: unknown,
    key: string | undefined
  ): Promise<RunRow>
}

const noParameters = { type: 'object', additionalProperties: false }

/** The routes of one report: its reply, and its runs. */
export function addReport(
  app: FastifyInstance,
  report: Report,
  { owner, create, internals, pathPrefix }: ReportRoutesOptions
): void {
  const { name, parameters, rows, csv } = report
  const viewer = report.viewer ?? internals.registered.viewer

  async function accept(request: FastifyRequest, reply: FastifyReply, given: unknown): Promise<FastifyReply> {
    const run = await create(report, owner(request), given, viewerOf({ viewer }, request), keyOf(request))
    if (preferencesOf(request).respondAsync) reply.header('preference-applied', 'respond-async')
    return reply
      .code(202)
      .header('location', `${pathPrefix}/runs/${run.id}`)
      .header('retry-after', retryAfter)
      .header('cache-control', 'no-store')
      .send(toRun(run, pathPrefix))
  }

  app.get(`/reports/${name}.csv`, withParameters({ querystring: parameters }), (request, reply) => {
    // As a run, in another process, would have them.
    const given = throughJson(request.query)
    addVary(reply, 'prefer')
    // Who asks for the head alone wants nothing made.
    if (request.method === 'GET' && preferencesOf(request).respondAsync) return accept(request, reply, given)
    const open = ({ viewer, signal }: SourceContext) => rows({ parameters: given, viewer, signal })
    return reply.csv(open, { ...csv, report: name, viewer })
  })

  app.post(
    `/reports/${name}/runs`,
    // Parameters in the query would be overlooked.
    withParameters({ querystring: noParameters, body: parameters }),
    (request, reply) => accept(request, reply, request.body)
  )
}

function keyOf({ headers }: FastifyRequest): string | undefined {
  const key = headers['idempotency-key']
  if (key === undefined) return undefined
  if (typeof key !== 'string' || key.length === 0 || key.length > 255)
    throw new CSV_EXPORT_INVALID_IDEMPOTENCY_KEY()
  return key
}
