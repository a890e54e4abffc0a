import { type Cause, causeOf, namesIn, type Symptom } from './causes.ts'
import { isHeld, type Measures, type PacedReply } from './measure.ts'
import { type Lump, median } from './pace.ts'
import type { HttpVersion } from './reply.ts'

export interface Finding {
  about: 'connection' | 'body' | 'rows' | 'coding' | 'break' | 'trailers' | 'silence'
  /** A note is no fault of this set-up, or none that hurts. */
  level: 'ok' | 'note' | 'wrong'
  /** A sentence. */
  text: string
  symptom?: Symptom
  cause?: Cause
}

/** What the measures mean, in plain words. */
export function judge(measures: Measures): Finding[] {
  const names = namesIn(measures.plain.headers)
  const findings = [
    ...connection(measures),
    ...bodies(measures),
    ...rows(measures),
    ...codingOf(measures),
    ...breaks(measures),
    trailers(measures),
    silence(measures)
  ]
  return findings.map((finding) =>
    finding.symptom === undefined ? finding : { ...finding, cause: causeOf(finding.symptom, names) }
  )
}

function connection({ plain, http2 }: Measures): Finding[] {
  const httpVersion = plain.rows[0]?.httpVersion
  const spoken = http2 === undefined ? 'HTTP/1.1 is spoken' : 'HTTP/1.1 and HTTP/2 are spoken'
  const text =
    httpVersion === undefined
      ? `${spoken}; no row says how the app is asked.`
      : `${spoken}, the app is asked in HTTP/${httpVersion}; the first byte comes after ${seconds(plain.firstByte)}.`
  const found: Finding = { about: 'connection', level: 'ok', text }
  if (httpVersion !== '1.0') return [found]
  const wrong: Finding = {
    about: 'connection',
    level: 'wrong',
    text: 'Something in between asks the app in HTTP/1.0: a body that ends with a plain close, as when the app dies, looks whole.',
    symptom: 'HTTP/1.0 upstream'
  }
  return [found, wrong]
}

/** Those that are to be whole, and are not. */
function bodies({ plain, http2, coded, rowCount }: Measures): Finding[] {
  return [plain, http2, coded].flatMap((reply) => {
    if (reply === undefined) return []
    const { version, brokenBy } = reply
    const isWhole =
      reply.rows.length === rowCount && reply.rows.every(({ number }, index) => number === index + 1)
    if (brokenBy === undefined && isWhole) return []
    const how = brokenBy === undefined ? 'lacks rows, and looks whole' : `breaks (${brokenBy})`
    const text = `A body on HTTP/${version} ${how}: ${reply.rows.length} of ${rowCount} rows came.`
    return [{ about: 'body', level: 'wrong', text } satisfies Finding]
  })
}

function rows({ plain, http2, interval, longRows }: Measures): Finding[] {
  const replies = [plain, http2].filter((reply) => reply !== undefined)
  const held = replies.filter((reply) => isHeld(reply, interval))
  const late = replies.filter((reply) => !held.includes(reply) && reply.late > interval / 2)
  const inTime = replies.filter((reply) => !held.includes(reply) && !late.includes(reply))
  const about = 'rows'
  const found: Finding[] = held.map((reply) => ({
    about,
    level: 'wrong',
    text: `Rows are held back on HTTP/${reply.version}: ${lumpsOf(reply)}${ofLongRows(longRows)}`,
    symptom: 'rows held'
  }))
  for (const reply of late) {
    const text = `Rows come ${seconds(reply.late)} late on HTTP/${reply.version}: ${lumpsOf(reply)}.`
    found.push({ about, level: 'note', text, symptom: 'rows late' })
  }
  if (inTime.length > 0) {
    found.push({ about, level: 'ok', text: `Rows come as they are sent (${versionsOf(inTime)}).` })
  }
  return found
}

function lumpsOf({ lumps }: PacedReply): string {
  const [first] = lumps as [Lump]
  const size = `${first.rows} rows, ${kilobytes(first.bytes)}, the first of them ${seconds(first.seconds * 1_000)} late`
  return lumps.length === 1 ? `all come in one lump (${size})` : `${lumps.length} lumps, the first of ${size}`
}

function ofLongRows(lumps: Lump[] | undefined): string {
  if (lumps === undefined || lumps.length === 0) return '.'
  if (lumps.length === 1) return `, and so do ${kilobytes((lumps[0] as Lump).bytes)} of long rows.`
  return `; long rows come in lumps of about ${kilobytes(median(lumps.map(({ bytes }) => bytes)))}.`
}

function codingOf({ plain, coded, interval, longRows }: Measures): Finding[] {
  const about = 'coding'
  const own = coded.rows[0]?.coding ?? ''
  const got = coded.headers['content-encoding'] ?? ''
  const found: Finding = { about, level: 'ok', text: whoCoded(own, got) }
  if (own !== got) found.level = 'note'
  if (!isHeld(coded, interval) || isHeld(plain, interval)) return [found]
  const text = `Rows are held back where they are coded: ${lumpsOf(coded)}${ofLongRows(longRows)}`
  return [found, { about, level: 'wrong', text, symptom: 'held while coded' }]
}

function whoCoded(own: string, got: string): string {
  if (own === got)
    return own === '' ? 'The body is not coded.' : `The body is coded with ${own}, by the plugin.`
  if (own === '')
    return `The body is coded with ${got}, not by the plugin: by another one of the app, or in between.`
  const instead = got === '' ? 'none' : got
  return `The plugin codes with ${own}, and ${instead} comes: something in between codes the body again.`
}

function breaks(measures: Measures): Finding[] {
  const { breaks } = measures
  const about = 'break'
  const found: Finding[] = []
  const seen = breaks.filter(({ brokenBy }) => brokenBy !== undefined)
  if (seen.length > 0) {
    const how = seen.map(({ version, brokenBy }) => `HTTP/${version}: ${brokenBy}`).join(', ')
    found.push({ about, level: 'ok', text: `A break is seen (${how}).` })
  }
  for (const { version, brokenBy } of breaks) {
    if (brokenBy === undefined) found.push(hiddenBreak(version, measures))
  }
  return found
}

function hiddenBreak(version: HttpVersion, { plain, isTls }: Measures): Finding {
  const about = 'break'
  const text = `A break is not seen on HTTP/${version}: a part of a file looks whole.`
  if (version === '1.0') {
    const hint = 'Few clients speak it, and most proxies hide it: docs/failures.md#what-no-server-can-mend'
    return { about, level: 'note', text: `${text} ${hint}` }
  }
  const isAsked10 = plain.rows[0]?.httpVersion === '1.0'
  if (version === '1.1') {
    return { about, level: 'wrong', text, symptom: isAsked10 ? 'HTTP/1.0 upstream' : 'break hidden' }
  }
  const symptom = isAsked10 ? 'HTTP/1.0 upstream' : 'break hidden on HTTP/2'
  if (isTls) return { about, level: 'wrong', text, symptom }
  return { about, level: 'note', text: `${text} Few clients speak it without TLS.`, symptom }
}

function trailers({ plain, http2 }: Measures): Finding {
  const about = 'trailers'
  const replies = [plain, http2].filter((reply) => reply !== undefined)
  const got = replies.filter(({ trailers }) => trailers['export-rows'] !== undefined)
  if (got.length > 0) return { about, level: 'ok', text: `Trailers arrive (${versionsOf(got)}).` }
  const why = plain.rows[0]?.asksTrailers
    ? 'they are lost on the way back'
    : 'the app is not told that they are wanted'
  return { about, level: 'note', text: `No trailers arrive: ${why}. The receipt says the same.` }
}

function silence({ silence: { seconds, brokenBy } }: Measures): Finding {
  const about = 'silence'
  if (brokenBy === undefined) return { about, level: 'ok', text: `A silence of ${seconds} s is borne.` }
  const text = `A silence of ${seconds} s ends the download (${brokenBy}).`
  return { about, level: 'wrong', text, symptom: 'silence cut' }
}

const versionsOf = (replies: PacedReply[]) => replies.map(({ version }) => `HTTP/${version}`).join(', ')
const seconds = (milliseconds: number) =>
  milliseconds < 100 ? `${milliseconds.toFixed(0)} ms` : `${(milliseconds / 1_000).toFixed(1)} s`
const kilobytes = (bytes: number) => `${(bytes / 1_000).toFixed(1)} kB`
