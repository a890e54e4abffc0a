import type { IncomingHttpHeaders } from 'node:http'

/** What may be wrong in between. */
export type Symptom =
  | 'rows held'
  | 'rows late'
  | 'held while coded'
  | 'HTTP/1.0 upstream'
  | 'break hidden'
  | 'break hidden on HTTP/2'
  | 'silence cut'

/** The likely cause of a symptom, and what mends it. */
export interface Cause {
  cause: string
  setting: string
  /** A page of the package, and its section. */
  page: string
}

/** Servers that tell their names in the head of a reply, of which others pass. HAProxy tells nothing. */
export function namesIn({ server = '', via = '', ...others }: IncomingHttpHeaders): string[] {
  const told = `${server} ${via} ${others['x-varnish'] === undefined ? '' : 'varnish'}`
  return Object.entries(signs).flatMap(([name, sign]) => (sign.test(told) ? name : []))
}

const signs: Record<string, RegExp> = {
  nginx: /nginx|openresty/i,
  Varnish: /varnish/i,
  Caddy: /caddy/i,
  Apache: /apache/i
}

const proxies = 'docs/failures.md#proxies'
const coding = 'docs/streaming.md#content-coding'

const nginxBuffers: Cause = {
  cause: 'nginx, with proxy_buffering on and X-Accel-Buffering: no ignored or removed',
  setting: 'proxy_buffering off; (or take proxy_ignore_headers X-Accel-Buffering; away)',
  page: 'docs/deployment.md#nginx'
}
const nginxSpeaks10: Cause = {
  cause: 'nginx, whose older versions speak HTTP/1.0 to the app by default',
  setting: 'proxy_http_version 1.1; and proxy_set_header Connection "";',
  page: 'docs/deployment.md#nginx'
}

/** By name of a server, or `any`, where none of the names is told. */
const causes: Record<Symptom, Record<string, Cause>> = {
  'rows held': {
    nginx: nginxBuffers,
    Varnish: {
      cause: 'Varnish, which holds rows back unless it passes the request on',
      setting: 'return (pass); in vcl_recv, and no set beresp.do_stream = false;',
      page: proxies
    },
    any: {
      cause: 'a buffer on the way: of a proxy, a load balancer, a CDN, or a virus scanner',
      setting: 'nginx: proxy_buffering off; Varnish: return (pass); others: response buffering off',
      page: proxies
    }
  },
  'rows late': {
    any: {
      cause: 'a proxy that waits for more, as HAProxy does on HTTP/1.1 without TLS',
      setting: 'HAProxy: option http-no-delay',
      page: proxies
    }
  },
  'held while coded': {
    nginx: {
      cause: 'nginx, whose gzip flushes nothing while proxy_buffering is on, or @fastify/compress in the app',
      setting: 'proxy_buffering off; or gzip off; and compress: true for the plugin, so that it codes',
      page: coding
    },
    any: {
      cause: 'something that compresses without flushing: @fastify/compress in the app, or a proxy’s gzip',
      setting: 'compress: true for the plugin, so that it codes, or the other one off for the route',
      page: coding
    }
  },
  'HTTP/1.0 upstream': { any: nginxSpeaks10 },
  'break hidden': {
    Caddy: {
      cause: 'Caddy, which ends a part as it ends the whole',
      setting: 'none of Caddy; have the file say that it is whole: endMark, or ask for the receipt',
      page: proxies
    },
    any: {
      cause: 'a proxy that ends a part as it ends the whole',
      setting: 'another proxy; or have the file say that it is whole: endMark, or ask for the receipt',
      page: proxies
    }
  },
  'break hidden on HTTP/2': {
    Varnish: {
      cause: 'Varnish, which hides a break on HTTP/2',
      setting: 'feature=-http2, or endMark',
      page: proxies
    },
    Caddy: {
      cause: 'Caddy, which ends a part as it ends the whole',
      setting: 'none of Caddy; have the file say that it is whole: endMark, or ask for the receipt',
      page: proxies
    },
    any: {
      cause: 'a proxy that hides a break on HTTP/2, as HAProxy and Varnish do',
      setting: 'HAProxy: alpn http/1.1 on the bind line; Varnish: feature=-http2; or endMark',
      page: proxies
    }
  },
  'silence cut': {
    nginx: {
      cause: 'nginx, which gives a silent app up',
      setting: 'proxy_read_timeout, longer than your longest silence',
      page: 'docs/deployment.md#silence'
    },
    any: {
      cause: 'a time-out of a proxy or load balancer that counts silence',
      setting: 'nginx: proxy_read_timeout; HAProxy: timeout server; longer than your longest silence',
      page: 'docs/deployment.md#silence'
    }
  }
}

/** @param names servers on the way that are known */
export function causeOf(symptom: Symptom, names: string[]): Cause {
  const known = causes[symptom]
  const named = names.find((name) => known[name] !== undefined) ?? 'any'
  return known[named] as Cause
}
