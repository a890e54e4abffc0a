import { parseArgs } from 'node:util'
import { most } from '../csv-export/probe/rows.ts'
import { type Finding, judge } from './judge.ts'
import { type Measures, measure, NoProbe, type ProbeOptions } from './measure.ts'

const help = `Usage: fastify-csv-export probe URL [options]

Tells what a client of a download really gets through everything in between. URL is that
of a server's probe route: register the plugin with { probe: true }, and it is
/csv-export-probe.

  --silence SECONDS   the silence that has to be borne between two rows (5; most 120)
  -H, --header TEXT   a header to send, such as 'Authorization: Bearer x'; may be repeated
  --insecure          any certificate will do
  --json              what was found as JSON, with all figures
  --quiet             no progress on stderr
  --help              this text

Exit status: 0 all is well, 1 something is wrong, 2 wrong use, or no probe answers.
`

/** Where a program writes to, as `process` is. */
export interface Terminal {
  stdout: { write(text: string): unknown }
  stderr: { write(text: string): unknown; isTTY?: boolean }
}

/** @returns the exit status */
export async function main(args: string[], { stdout, stderr }: Terminal): Promise<number> {
  try {
    const { isHelp, isJson, isQuiet, ...asked } = readArguments(args)
    if (isHelp) {
      stdout.write(help)
      return 0
    }
    const onStep = (text: string) => {
      if (stderr.isTTY && !isQuiet) stderr.write(`\r\u001b[Kprobing: ${text}`)
    }
    const measures = await measure({ ...asked, onStep }).finally(() => {
      if (stderr.isTTY && !isQuiet) stderr.write('\r\u001b[K')
    })
    const findings = judge(measures)
    const isWell = findings.every(({ level }) => level !== 'wrong')
    stdout.write(isJson ? json(asked.url, isWell, findings, measures) : words(isWell, findings))
    return isWell ? 0 : 1
  } catch (error) {
    if (!(error instanceof NoProbe)) throw error
    stderr.write(`${error.message}\n`)
    return 2
  }
}

type Arguments = Omit<ProbeOptions, 'onStep'> & { isHelp: boolean; isJson: boolean; isQuiet: boolean }

function readArguments(args: string[]): Arguments {
  const { values, positionals } = parse(args)
  const [command, text = '', ...others] = positionals
  const isHelp = values.help === true
  const url = URL.parse(isHelp ? 'http://localhost' : text)
  if (!isHelp && (command !== 'probe' || others.length > 0)) throw new NoProbe(help)
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new NoProbe(`A URL is needed that begins with http:// or https://, not "${text}". See --help.`)
  }
  const silence = Number(values.silence)
  const longest = most.milliseconds / 1_000
  if (!(silence >= 0 && silence <= longest)) {
    throw new NoProbe(`--silence is a number of seconds between 0 and ${longest}.`)
  }
  return {
    url,
    headers: Object.fromEntries(values.header.map(readHeader)),
    isStrict: !values.insecure,
    silence,
    isHelp,
    isJson: values.json === true,
    isQuiet: values.quiet === true
  }
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        silence: { type: 'string', default: '5' },
        header: { type: 'string', short: 'H', multiple: true, default: [] },
        insecure: { type: 'boolean' },
        json: { type: 'boolean' },
        quiet: { type: 'boolean' },
        help: { type: 'boolean' }
      }
    })
  } catch (error) {
    throw new NoProbe(`${(error as Error).message} See --help.`)
  }
}

function readHeader(text: string): [string, string] {
  const [, name, value] = /^([\w-]+):\s*(.*)$/.exec(text) ?? []
  if (name === undefined || value === undefined)
    throw new NoProbe(`A header is "Name: value", not "${text}".`)
  return [name.toLowerCase(), value]
}

function words(isWell: boolean, findings: Finding[]): string {
  const lines = findings.map(({ level, text, cause }) => {
    const line = `${level.padEnd(7)}${text}\n`
    if (cause === undefined) return line
    return `${line}       Likely: ${cause.cause}.\n       Set: ${cause.setting}\n       See: ${cause.page}\n`
  })
  return `${lines.join('')}\n${isWell ? 'All is well.' : 'Something is wrong: see above.'}\n`
}

/** Figures without the text of the rows. */
function json(url: URL, isWell: boolean, findings: Finding[], measures: Measures): string {
  const { plain, http2, coded, ...others } = measures
  const replies = [plain, http2, coded].filter((reply) => reply !== undefined)
  const figures = replies.map(({ version, status, headers, trailers, brokenBy, firstByte, late, lumps }) => ({
    version,
    status,
    headers,
    trailers,
    brokenBy,
    firstByte,
    late,
    lumps
  }))
  return `${JSON.stringify({ url, isWell, findings, replies: figures, ...others }, undefined, 2)}\n`
}
