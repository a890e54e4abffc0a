import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import { headerLine, type ProbeRequest, usualPath } from '../csv-export/probe/rows.ts'
import { askers, type Question } from './ask.ts'
import { type Lump, type Pace, paceOf } from './pace.ts'
import { codeOf, codings, type HttpVersion, type Reply } from './reply.ts'

export interface ProbeOptions extends Omit<Question, 'timeout'> {
  /** Seconds of the silence between two rows that everything in between has to bear. */
  silence: number
  /** Called with what is done next. */
  onStep(text: string): void
}

/** A reply to a request for rows at a pace. */
export interface PacedReply extends Reply, Pace {
  version: HttpVersion
}

export interface Break {
  version: HttpVersion
  /** How it was seen; undefined if it was not. */
  brokenBy: string | undefined
}

/** What has been found out, without any judgement. */
export interface Measures {
  isTls: boolean
  /** Milliseconds between two rows, as the server makes them. */
  interval: number
  /** How many rows there are in a whole reply. */
  rowCount: number
  /** Without a content coding, on HTTP/1.1. */
  plain: PacedReply
  /** The same on HTTP/2, where that is spoken. */
  http2: PacedReply | undefined
  /** With any content coding. */
  coded: PacedReply
  /** How long rows come, where short ones are held back. */
  longRows: Lump[] | undefined
  /** In each version that is spoken. */
  breaks: Break[]
  silence: { seconds: number; brokenBy: string | undefined }
}

/** There is nothing to judge: nobody answers, or it is no route of a probe. */
export class NoProbe extends Error {}

/** Rows of the pace that a slow source has; a fast one, for as long as its rows are longer than most buffers. */
const slow = { rows: 10, interval: 100 }
const long = { rows: 64, interval: 20, bytes: 8_192 }
const broken = { rows: 6, interval: 50, breakAfter: 3 }

export async function measure(options: ProbeOptions): Promise<Measures> {
  const { silence, onStep } = options
  const paced = async (version: HttpVersion, coding: string): Promise<PacedReply> => {
    const reply = await ask(options, version, slow, coding)
    return { ...reply, ...paceOf(reply, slow.interval), version }
  }
  onStep('rows on HTTP/1.1')
  const plain = await paced('1.1', 'identity')
  checkIsProbe(options.url, plain)
  const silent = ask(options, '1.1', { rows: 2, interval: silence * 1_000 })
  onStep('rows on HTTP/2')
  const onHttp2 = await paced('2', 'identity')
  const http2 = onHttp2.status === 0 ? undefined : onHttp2
  onStep('rows with a content coding')
  const isTls = options.url.protocol === 'https:'
  const coded = await paced(isTls && http2 !== undefined ? '2' : '1.1', codings)
  const held = [plain, http2, coded].find((reply) => reply !== undefined && isHeld(reply, slow.interval))
  const longRows = held && (await longRowsOf(options, held.version, held === coded ? codings : 'identity'))
  const breaks = await breakEach(options, http2 === undefined ? ['1.1', '1.0'] : ['1.1', '2', '1.0'])
  onStep(`a silence of ${silence} s`)
  return {
    isTls,
    interval: slow.interval,
    rowCount: slow.rows,
    plain,
    http2,
    coded,
    longRows,
    breaks,
    silence: { seconds: silence, brokenBy: (await silent).brokenBy }
  }
}

async function longRowsOf(options: ProbeOptions, version: HttpVersion, coding: string): Promise<Lump[]> {
  options.onStep('long rows')
  return paceOf(await ask(options, version, long, coding), long.interval).lumps
}

async function breakEach(options: ProbeOptions, versions: HttpVersion[]): Promise<Break[]> {
  const breaks: Break[] = []
  for (const version of versions) {
    options.onStep(`a break on HTTP/${version}`)
    const { brokenBy } = await ask(options, version, broken)
    breaks.push({ version, brokenBy })
  }
  return breaks
}

/** One late row may be a busy machine's, but not half of them. */
export function isHeld({ late }: Pick<Pace, 'late'>, interval: number): boolean {
  return late > 3 * interval
}

/** An error is a way to be told that something is broken, too; before the head, the status is 0. */
async function ask(
  { url, headers, isStrict }: ProbeOptions,
  version: HttpVersion,
  wanted: Pick<ProbeRequest, 'rows' | 'interval'> & Partial<ProbeRequest>,
  coding = 'identity'
): Promise<Reply> {
  const asked = new URL(url)
  for (const [name, value] of Object.entries(wanted)) asked.searchParams.set(name, String(value))
  // No cache has it, and none makes one request wait for another.
  asked.searchParams.set('once', randomUUID())
  const timeout = wanted.rows * wanted.interval + 15_000
  const question = { url: asked, headers: { ...headers, 'accept-encoding': coding }, isStrict, timeout }
  try {
    const reply = await askers[version](question)
    return reply.status < 400 ? reply : { ...reply, brokenBy: reply.brokenBy ?? `status ${reply.status}` }
  } catch (error) {
    return { status: 0, headers: {}, trailers: {}, pieces: [], brokenBy: codeOf(error) }
  }
}

function checkIsProbe(url: URL, { status, headers, pieces, brokenBy }: Reply): void {
  if (status === 0) throw new NoProbe(`${url} does not answer: ${brokenBy}`)
  const { location } = headers
  const help =
    `Register the plugin with { probe: true }, and give the URL of ${usualPath} on your server; ` +
    'with { probe: PATH }, that of the path.'
  if (location !== undefined) throw new NoProbe(`${url} leads to ${location}: probe that.`)
  if (status !== 200)
    throw new NoProbe(`${url} answers ${[status, STATUS_CODES[status]].join(' ').trim()}. ${help}`)
  const text = pieces.map((piece) => piece.text).join('')
  if (brokenBy === undefined && !text.startsWith(headerLine)) {
    throw new NoProbe(`${url} is no route of a probe. ${help}`)
  }
}
