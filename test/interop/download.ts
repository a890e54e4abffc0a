import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import type { FastifyReply } from 'fastify'
import type { ContentCoding } from '../../plugins/csv-export/index.ts'
import { type Cell, cannotBeSeen } from './cells.ts'
import { environment } from './clients.ts'
import { control, type Scenario, wholeBody } from './scenarios.ts'
import { address, type Certificate, type Nginx, startApp } from './servers.ts'

export interface World {
  certificate: Certificate | undefined
  nginx: Nginx | undefined
}

/** What came of a download in which an export ended in one way. */
export interface Outcome {
  cell: Cell
  scenario: Scenario
  /** What the client reported, in short. */
  report: string
  /** Why the run must fail. */
  problems: string[]
}

interface Download {
  /** The app's side of it; undefined when no request came. */
  reply: FastifyReply | undefined
  exitCode: number | null
  body: Buffer
  stderr: string
}

const timeout = 60_000

/** Lets a cell's client download an export of a scenario, and judges what it reports. */
export async function run(cell: Cell, scenario: Scenario, world: World): Promise<Outcome> {
  const download = await runClient(cell, scenario, world)
  const outcome = scenario === control ? judgeControl(cell, download) : judgeFailure(cell, download)
  return { cell, scenario, ...outcome }
}

async function runClient(cell: Cell, scenario: Scenario, { certificate, nginx }: World): Promise<Download> {
  let client: ChildProcessByStdio<null, Readable, Readable>
  let reply: FastifyReply | undefined
  const listener = cell.path.nginx === undefined ? cell.protocol.listener : 'plain'
  const compress: ContentCoding[] = cell.path.gzip && cell.path.nginx === undefined ? ['gzip'] : []
  const plugin = { compress, ...scenario.plugin }
  const app = await startApp(listener, certificate, plugin, (_request, received) => {
    reply = received
    return scenario.send(received, { app, client })
  })
  const { command, protocols, certificateOption } = cell.client
  const [program = '', ...args] = [...command, ...(protocols[cell.protocol.name] ?? [])]
  if (certificateOption && certificate) args.push(certificateOption, certificate.certificate)
  client = spawn(program, [...args, address(cell, app, nginx)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: environment(certificate?.certificate),
    timeout,
    // The only one that ends a stopped process.
    killSignal: 'SIGKILL'
  })
  const [[exitCode], body, stderr] = await Promise.all([
    once(client, 'close'),
    buffer(client.stdout),
    text(client.stderr)
  ])
  await app.close()
  return { reply, exitCode, body, stderr }
}

type Verdict = Pick<Outcome, 'report' | 'problems'>

/** Without a whole download that looks whole, a broken one that looks broken proves nothing. */
function judgeControl(cell: Cell, { reply, exitCode, body, stderr }: Download): Verdict {
  if (exitCode !== 0) return { report: 'failed', problems: [`it failed: ${said(cell, exitCode, stderr)}`] }
  const problems: string[] = []
  if (!body.equals(wholeBody)) problems.push('it has other bytes')
  const { headers, raw } = (reply as FastifyReply).request
  const version = headers['x-client-protocol'] ?? `HTTP/${raw.httpVersion}`
  if (version !== `HTTP/${cell.protocol.version}`) problems.push(`the client spoke ${version}`)
  if (cell.path.gzip && !/gzip/.test(`${headers['accept-encoding']}`)) {
    problems.push('the client did not accept gzip')
  }
  if (cell.client.name === 'curl') problems.push(...judgeCodings(cell, JSON.parse(stderr)))
  return { report: 'whole', problems }
}

function judgeCodings({ protocol, path }: Cell, headers: Record<string, string[]>): string[] {
  const problems: string[] = []
  const { 'transfer-encoding': transfer, 'content-encoding': content } = headers
  if (protocol.version !== '1.1' && transfer) problems.push(`${protocol.name} got the coding ${transfer}`)
  if (path.gzip !== (content?.[0] === 'gzip')) problems.push(`the content coding is ${content ?? 'missing'}`)
  return problems
}

function judgeFailure(cell: Cell, { reply, exitCode, stderr }: Download): Verdict {
  const report = said(cell, exitCode, stderr)
  const status = reply?.raw.statusCode
  // An error before the first byte is another matter.
  if (status !== 200) return { report: 'not run', problems: [`the app's status is ${status}: ${report}`] }
  if (exitCode === null) return { report, problems: [`the client waited for ${timeout} ms`] }
  if (exitCode !== 0) return { report, problems: [] }
  if (cannotBeSeen(cell)) return { report: `${report} (cannot be)`, problems: [] }
  return { report, problems: ['the client took a part for the whole'] }
}

function said({ client }: Cell, exitCode: number | null, stderr: string): string {
  if (exitCode === null) return 'hung'
  return exitCode === 0 ? 'not seen' : client.report(exitCode, stderr)
}
