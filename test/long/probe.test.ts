import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import csvExport, { type PluginOptions } from '../../plugins/csv-export/index.ts'
import { temporaryFolder } from '../database.ts'
import { serve } from '../helper.ts'
import { freePorts, runNginx, startNginx } from '../nginx.ts'
import { probe, type Verdict } from '../probing.ts'
import { skipWithout } from '../programs.ts'
import { proxies, startProxy } from './proxies.ts'

const path = '/csv-export-probe'

async function startApp(t: Test, defaults: PluginOptions = {}): Promise<string> {
  const { url } = await serve(t, () => {}, { defaults: { probe: true, ...defaults } })
  return url
}

/** nginx with one location. */
async function behindNginx(t: Test, ...directives: string[]): Promise<string> {
  const [port] = (await freePorts(1)) as [number]
  const server = `
    access_log off;
    server {
      listen 127.0.0.1:${port};
      location / { ${directives.join(' ')} }
    }`
  const running = await runNginx(server, port, (text) => t.comment(`nginx: ${text}`))
  t.teardown(() => running.end('SIGTERM'))
  return `http://127.0.0.1:${port}${path}`
}

const settingsOf = ({ findings }: Verdict) => findings.flatMap(({ cause }) => cause?.setting ?? [])
const textsOf = ({ findings }: Verdict) => findings.map(({ level, text }) => `${level} ${text}`).join('\n')

const skip = skipWithout('nginx', 'nginx', '-v')
const http11 = 'proxy_http_version 1.1;'
const buffers = 'proxy_ignore_headers X-Accel-Buffering;'

t.test('the probe names what is wrong with nginx', { skip, timeout: 60_000 }, async (t) => {
  await t.test('as docs/deployment.md has it: nothing', async (t) => {
    const found = await probe((await startNginx(t, await startApp(t))) + path)
    t.same(found.wrong, [])
    t.equal(found.status, 0)
  })

  await t.test('that buffers', async (t) => {
    const found = await probe(await behindNginx(t, `proxy_pass ${await startApp(t)};`, buffers))
    t.same(found.wrong, ['HTTP/1.0 upstream', 'rows held'])
    t.match(settingsOf(found), [/^proxy_http_version 1.1;/, /^proxy_buffering off;/])
    t.match(textsOf(found), /wrong Rows are held back on HTTP\/1.1: all come in one lump \(10 rows, 0.\d kB/)
    t.match(textsOf(found), /long rows come in lumps of about \d+\.\d kB/)
    t.equal(found.status, 1)
  })

  await t.test('that asks a UNIX socket in HTTP/1.0: a break looks whole', async (t) => {
    const app = Fastify()
    await app.register(csvExport, { probe: true })
    const folder = await temporaryFolder(t)
    const socket = join(folder, 'app')
    await app.listen({ path: socket })
    // Workers of nginx run as another user.
    await chmod(folder, 0o755)
    await chmod(socket, 0o777)
    t.teardown(() => app.close())
    const found = await probe(await behindNginx(t, `proxy_pass http://unix:${socket};`))
    t.same(found.wrong, ['HTTP/1.0 upstream', 'HTTP/1.0 upstream'])
    t.match(textsOf(found), /wrong A break is not seen on HTTP\/1.1/)
    t.match(settingsOf(found), [/^proxy_http_version 1.1;/, /^proxy_http_version 1.1;/])
    const mended = await probe(await behindNginx(t, `proxy_pass http://unix:${socket};`, http11))
    t.same(mended.wrong, [])
  })

  await t.test('that gzips without flushing', async (t) => {
    const gzip = 'gzip on; gzip_types text/csv; gzip_proxied any;'
    const pass = `proxy_pass ${await startApp(t, { compress: false })};`
    const found = await probe(await behindNginx(t, pass, http11, gzip, buffers))
    t.same(found.wrong, ['held while coded'])
    t.match(settingsOf(found), [/^proxy_buffering off; or gzip off;/])
    t.match(textsOf(found), /note The body is coded with gzip, not by the plugin/)
    const mended = await probe(await behindNginx(t, pass, http11, gzip))
    t.same(mended.wrong, [])
  })

  await t.test('that gives a silent app up', async (t) => {
    const pass = `proxy_pass ${await startApp(t)};`
    const found = await probe(await behindNginx(t, pass, http11, 'proxy_read_timeout 1s;'), '--silence', '2')
    t.same(found.wrong, ['silence cut'])
    t.match(settingsOf(found), [/^proxy_read_timeout/])
  })
})

/** By setting: what is wrong without TLS, and with it. */
const behind: Record<string, Record<string, [plain: string[], tls: string[]]>> = {
  nginx: { '': [[], []] },
  Apache: { '': [[], []] },
  HAProxy: {
    '': [[], ['break hidden on HTTP/2']],
    'alpn http/1.1': [[], []]
  },
  Varnish: {
    '': [[], []],
    'without return (pass);': [['rows held', 'rows held'], []]
  },
  Caddy: { '': [['break hidden'], ['break hidden', 'break hidden on HTTP/2']] }
}

for (const proxy of proxies) {
  const { name, version, package: debian } = proxy.program
  const [command = '', ...args] = version
  const skip =
    skipWithout(`${name} (${debian})`, command, ...args) || skipWithout('openssl', 'openssl', 'version')
  t.test(
    `the probe finds behind ${name} what docs/failures.md says`,
    { skip, timeout: 60_000 },
    async (t) => {
      const app = await startApp(t)
      for (const [setting, wrong] of Object.entries(behind[name] ?? {})) {
        const front = await startProxy(t, proxy, app, setting)
        for (const url of new Set(front.map(({ curl }) => curl.at(-1) as string))) {
          const isTls = url.startsWith('https:')
          const found = await probe(url + path, '--silence', '0')
          t.same(found.wrong, wrong[isTls ? 1 : 0], `${setting} ${isTls ? 'with TLS' : ''}`)
          if (name === 'HAProxy' && !isTls) t.match(settingsOf(found)[0], /option http-no-delay/)
          if (name === 'Varnish' && setting === '') t.match(settingsOf(found), [/feature=-http2/])
          if (!t.passing()) t.comment(textsOf(found))
        }
      }
    }
  )
}
