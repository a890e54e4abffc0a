import type { Finding } from '../plugins/probe/judge.ts'
import { main } from '../plugins/probe/main.ts'

export interface Probed {
  status: number
  stdout: string
  stderr: string
}

/** Runs the program in this process. */
export async function runProbe(args: string[], { isTTY = false } = {}): Promise<Probed> {
  const texts = { stdout: '', stderr: '' }
  const status = await main(args, {
    stdout: { write: (text) => (texts.stdout += text) },
    stderr: { write: (text) => (texts.stderr += text), isTTY }
  })
  return { status, ...texts }
}

export interface Verdict {
  status: number
  findings: Finding[]
  /** All that is wrong, each by its symptom, or by what it is about. */
  wrong: string[]
}

export async function probe(url: string, ...args: string[]): Promise<Verdict> {
  const { status, stdout, stderr } = await runProbe([
    'probe',
    url,
    '--json',
    '--insecure',
    '--silence',
    '0',
    ...args
  ])
  if (status === 2) throw new Error(stderr)
  const { findings } = JSON.parse(stdout) as { findings: Finding[] }
  const wrong = findings.filter(({ level }) => level === 'wrong')
  return { status, findings, wrong: wrong.map(({ symptom, about }) => symptom ?? about) }
}
