import { execFileSync, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Protocol } from './cells.ts'

/** Something that has to be installed. */
export interface Program {
  name: string
  /** Prints its version; fails where it is missing. */
  version: string[]
  /** The Debian package that has it. */
  package: string
}

/** A program that downloads a URL to its standard output. */
export interface Client {
  name: string
  program: Program
  command: string[]
  /** The protocols that it can speak, each with the arguments that make it. */
  protocols: Partial<Record<Protocol['name'], string[]>>
  /** Its option that names a certificate to trust, where no environment variable does. */
  certificateOption?: string
  /** What it said by itself about a failure, in short. */
  report(code: number, stderr: string): string
}

const script = (name: string) => fileURLToPath(new URL(`clients/${name}`, import.meta.url))

const python = pythonProgram()

/** The interpreter itself: where `python3` is a wrapper, a signal would not reach it. */
function pythonProgram(): string {
  try {
    return execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim()
  } catch {
    return 'python3'
  }
}

/** The last line of a traceback, `package.Class: message`. */
const exceptionClass = (_code: number, stderr: string) =>
  /^(?:[\w.]+\.)?(\w+)(?::.*)?$/.exec(stderr.trim().split('\n').at(-1) ?? '')?.[1] ?? stderr

const errorCode = (_code: number, stderr: string) =>
  /code: '(\w+)'/.exec(stderr)?.[1] ?? /\w*Error: .*/.exec(stderr)?.[0] ?? stderr

export const clients: Client[] = [
  {
    name: 'curl',
    program: { name: 'curl', version: ['curl', '--version'], package: 'curl' },
    // The headers on stderr are for the checks of a whole download.
    command: ['curl', '-q', '--silent', '--fail', '--compressed', '--write-out', '%{stderr}%{header_json}'],
    protocols: {
      'HTTP/1.0': ['--http1.0'],
      // It would offer `http/1.0` in ALPN, which Node refuses.
      'HTTP/1.0 over TLS': ['--http1.0', '--no-alpn'],
      'HTTP/1.1': ['--http1.1'],
      'HTTP/1.1 over TLS': ['--http1.1'],
      'HTTP/2 cleartext': ['--http2-prior-knowledge'],
      'HTTP/2 over TLS': ['--http2']
    },
    report: (code) => `curl ${code}`
  },
  {
    name: 'wget',
    program: { name: 'wget', version: ['wget', '--version'], package: 'wget' },
    // It would try 20 times, for minutes.
    command: ['wget', '--no-config', '--quiet', '--tries=1', '--compression=auto', '--output-document=-'],
    protocols: { 'HTTP/1.1': [], 'HTTP/1.1 over TLS': [] },
    certificateOption: '--ca-certificate',
    report: (code) => `wget ${code}`
  },
  {
    name: 'fetch',
    program: { name: 'Node', version: [process.execPath, '--version'], package: 'nodejs' },
    command: [process.execPath, script('get_with_fetch.mjs')],
    // Over TLS it takes HTTP/2 where that is offered.
    protocols: { 'HTTP/1.1': [], 'HTTP/2 over TLS': [] },
    report: errorCode
  },
  {
    name: 'urllib',
    program: { name: 'Python', version: [python, '--version'], package: 'python3' },
    command: [python, script('get_with_urllib.py')],
    protocols: {
      'HTTP/1.0': ['--http1.0'],
      'HTTP/1.0 over TLS': ['--http1.0'],
      'HTTP/1.1': [],
      'HTTP/1.1 over TLS': []
    },
    report: exceptionClass
  },
  {
    name: 'requests',
    program: {
      name: 'requests',
      version: [python, '-c', 'import requests; print(requests.__version__)'],
      package: 'python3-requests'
    },
    command: [python, script('get_with_requests.py')],
    protocols: { 'HTTP/1.1': [], 'HTTP/1.1 over TLS': [] },
    report: exceptionClass
  }
]

/** Makes the clients trust a certificate, and keeps the machine's own settings away from them. */
export function environment(certificate: string | undefined): NodeJS.ProcessEnv {
  const trust = certificate && {
    CURL_CA_BUNDLE: certificate,
    NODE_EXTRA_CA_CERTS: certificate,
    REQUESTS_CA_BUNDLE: certificate,
    SSL_CERT_FILE: certificate
  }
  return { PATH: process.env.PATH, HOME: '/nonexistent', ...trust }
}

/** The version that a program says it has; undefined where it is missing. */
export function versionOf({ version: [command = '', ...args] }: Program): string | undefined {
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: 'utf8' })
  return status === 0 ? /\d+(\.\d+)+/.exec(stdout + stderr)?.[0] : undefined
}
