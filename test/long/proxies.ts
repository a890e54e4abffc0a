import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { temporaryFolder } from '../database.ts'
import type { Program } from '../interop/clients.ts'
import { type Certificate, makeCertificate } from '../interop/servers.ts'
import { freePorts, mainConfiguration } from '../nginx.ts'
import { runListening } from '../programs.ts'

/** What a configuration is made of. */
interface Place {
  /** The app's host and port. */
  app: string
  /** The ports to listen on, of the loopback interface. */
  plain: number
  tls: number
  certificate: Certificate
  /** For all that it writes. */
  folder: string
}

export interface ProxyServer {
  program: Program
  /** @param setting one of those of docs/failures.md, or '' for what the table's cells are measured with */
  configuration(place: Place, setting: string): string
  /** @param file the configuration */
  command(file: string, place: Place, setting: string): string[]
  /** Varnish leaves it to others. */
  tls?: false
}

const nginx: ProxyServer = {
  program: { name: 'nginx', version: ['nginx', '-v'], package: 'nginx-light' },
  configuration: ({ app, plain, tls, certificate, folder }) =>
    mainConfiguration(
      folder,
      `access_log off;
      error_log stderr emerg;
      server {
        listen 127.0.0.1:${plain};
        listen 127.0.0.1:${tls} ssl http2;
        ssl_certificate ${certificate.certificate};
        ssl_certificate_key ${certificate.key};
        proxy_http_version 1.1;
        location / {
          proxy_pass http://${app};
        }
      }`
    ),
  command: (file, { folder }) => ['nginx', '-p', folder, '-e', 'stderr', '-c', file]
}

const apache: ProxyServer = {
  program: { name: 'Apache', version: ['apache2', '-v'], package: 'apache2-bin' },
  configuration: ({ app, plain, tls, certificate, folder }) => `
    ${['mpm_event', 'authz_core', 'proxy', 'proxy_http', 'http2', 'ssl'].map(apacheModule).join('\n')}
    ServerRoot ${folder}
    DefaultRuntimeDir ${folder}
    PidFile ${folder}/pid
    ErrorLog ${folder}/log
    Mutex posixsem
    ServerName 127.0.0.1
    User www-data
    Group www-data
    Listen 127.0.0.1:${plain}
    Listen 127.0.0.1:${tls}
    Protocols h2 http/1.1
    <VirtualHost 127.0.0.1:${plain}>
      ProxyPass / http://${app}/
    </VirtualHost>
    <VirtualHost 127.0.0.1:${tls}>
      SSLEngine on
      SSLCertificateFile ${certificate.certificate}
      SSLCertificateKeyFile ${certificate.key}
      ProxyPass / http://${app}/
    </VirtualHost>
  `,
  command: (file) => ['apache2', '-DFOREGROUND', '-f', file]
}

const apacheModule = (name: string) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`

const haproxy: ProxyServer = {
  program: { name: 'HAProxy', version: ['haproxy', '-v'], package: 'haproxy' },
  configuration: ({ app, plain, tls, folder }, setting) => `
    defaults
      mode http
      timeout connect 5s
      timeout client 60s
      timeout server 60s
      ${setting.startsWith('option') ? setting : ''}
    listen app
      bind 127.0.0.1:${plain}
      bind 127.0.0.1:${tls} ssl crt ${folder}/both.pem ${setting.startsWith('alpn') ? setting : 'alpn h2,http/1.1'}
      server app ${app}
  `,
  command: (file) => ['haproxy', '-db', '-f', file]
}

const varnish: ProxyServer = {
  program: { name: 'Varnish', version: ['varnishd', '-V'], package: 'varnish' },
  configuration: ({ app }, setting) => {
    const [host, port] = app.split(':')
    return `vcl 4.1;
      backend app { .host = "${host}"; .port = "${port}"; }
      sub vcl_recv { ${setting === 'without return (pass);' ? '' : 'return (pass);'} }
      sub vcl_backend_response { ${setting.startsWith('set') ? setting : ''} }
    `
  },
  command: (file, { folder, plain }, setting) => [
    ...['varnishd', '-F', '-j', 'none', '-n', join(folder, 'work'), '-a', `127.0.0.1:${plain}`, '-f', file],
    ...['-s', 'malloc,64m', '-p', setting.startsWith('feature') ? setting : 'feature=+http2']
  ],
  tls: false
}

const caddy: ProxyServer = {
  program: { name: 'Caddy', version: ['caddy', 'version'], package: 'caddy' },
  configuration: ({ app, plain, tls, certificate }, setting) => `
    {
      admin off
      auto_https off
    }
    (app) {
      reverse_proxy ${app} {
        ${setting}
      }
    }
    http://127.0.0.1:${plain} {
      import app
    }
    https://127.0.0.1:${tls} {
      tls ${certificate.certificate} ${certificate.key}
      import app
    }
  `,
  command: (file) => ['caddy', 'run', '--config', file, '--adapter', 'caddyfile']
}

export const proxies = [nginx, apache, haproxy, varnish, caddy]

/** curl's arguments for each way to speak to the proxy, the URL's beginning last; those of one column are to agree. */
export type Front = { column: 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2'; curl: string[] }[]

/** Starts it in front of an app, with a certificate of its own; it is gone when the test ends. */
export async function startProxy(
  t: Test,
  proxy: ProxyServer,
  appUrl: string,
  setting: string
): Promise<Front> {
  const certificate = makeCertificate()
  t.teardown(certificate.remove)
  const [plain, tls] = (await freePorts(2)) as [number, number]
  const folder = await temporaryFolder(t)
  // Their workers run as another user.
  await chmod(folder, 0o755)
  const place = { app: new URL(appUrl).host, plain, tls, certificate, folder }
  const file = join(folder, 'configuration')
  // HAProxy refuses a last line that does not end.
  await writeFile(file, `${proxy.configuration(place, setting)}\n`)
  const pem = await Promise.all([readFile(certificate.certificate), readFile(certificate.key)])
  await writeFile(join(folder, 'both.pem'), Buffer.concat(pem), { mode: 0o600 })
  let messages = ''
  const home = { HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder }
  const command = proxy.command(file, place, setting)
  const running = await runListening(command, plain, (text) => (messages += text), home).catch((error) => {
    throw new Error(messages, { cause: error })
  })
  t.teardown(() => running.end('SIGKILL'))
  const cleartext = `http://127.0.0.1:${plain}`
  const front: Front = [
    { column: 'HTTP/1.0', curl: ['--http1.0', cleartext] },
    { column: 'HTTP/1.1', curl: ['--http1.1', cleartext] }
  ]
  if (proxy.tls === false) {
    return [...front, { column: 'HTTP/2', curl: ['--http2', cleartext] }]
  }
  const overTls = ['--cacert', certificate.certificate, `https://127.0.0.1:${tls}`]
  return [
    ...front,
    { column: 'HTTP/1.0', curl: ['--http1.0', '--no-alpn', ...overTls] },
    { column: 'HTTP/1.1', curl: ['--http1.1', ...overTls] },
    { column: 'HTTP/2', curl: ['--http2', ...overTls] }
  ]
}
