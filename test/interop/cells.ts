import { type Client, clients } from './clients.ts'

/** What a server listens with. */
export type Listener = 'plain' | 'h2c' | 'tls'

interface ProtocolShape {
  name: string
  version: '1.0' | '1.1' | '2.0'
  listener: Listener
}

export const protocols = [
  { name: 'HTTP/1.0', version: '1.0', listener: 'plain' },
  { name: 'HTTP/1.0 over TLS', version: '1.0', listener: 'tls' },
  { name: 'HTTP/1.1', version: '1.1', listener: 'plain' },
  { name: 'HTTP/1.1 over TLS', version: '1.1', listener: 'tls' },
  { name: 'HTTP/2 cleartext', version: '2.0', listener: 'h2c' },
  { name: 'HTTP/2 over TLS', version: '2.0', listener: 'tls' }
] as const satisfies ProtocolShape[]

export type Protocol = (typeof protocols)[number]

/** How a client reaches the app. */
export interface Path {
  name: string
  /** Directives of the nginx in between, if there is one. */
  nginx?: string
  /** Whether the body is coded: by nginx, or by the plugin where there is none. */
  gzip: boolean
}

// The default of nginx up to 1.29.6: written out, so that a later one measures the same.
const upstream10 = 'proxy_http_version 1.0;'
const upstream11 = 'proxy_http_version 1.1;'
const gzip = 'gzip on; gzip_types text/csv; gzip_proxied any; gzip_http_version 1.0;'

export const paths: Path[] = [
  { name: 'direct', gzip: false },
  { name: 'direct, gzip', gzip: true },
  { name: 'nginx', nginx: upstream10, gzip: false },
  { name: 'nginx, HTTP/1.1 upstream', nginx: upstream11, gzip: false },
  { name: 'nginx, gzip', nginx: upstream10 + gzip, gzip: true },
  { name: 'nginx, gzip, HTTP/1.1 upstream', nginx: upstream11 + gzip, gzip: true }
]

export interface Cell {
  protocol: Protocol
  path: Path
  client: Client
}

/** Every combination that exists. */
export const cells: Cell[] = protocols.flatMap((protocol) =>
  paths.flatMap((path) =>
    clients
      .filter((client) => client.protocols[protocol.name] !== undefined)
      .map((client) => ({ protocol, path, client }))
  )
)

/** Cells that no server can mend: the body ends with the connection, and the client is shown an ordinary end of it. */
export function cannotBeSeen({ protocol, path, client }: Cell): boolean {
  if (protocol.version !== '1.0') return false
  // Python's gzip module misses gzip's own end mark. curl does not.
  if (path.gzip && client.name === 'urllib') return false
  // Python's ssl module takes a reset for an end.
  return path.nginx !== undefined || (protocol.listener === 'tls' && client.name === 'urllib')
}

export function cellName({ protocol, path, client }: Cell): string {
  return `${protocol.name}, ${path.name}, ${client.name}`
}
