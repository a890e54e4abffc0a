import accepts from '@fastify/accepts'
import escapeHtml from 'escape-html'
import type { FastifyInstance, HTTPMethods } from 'fastify'

const title = 'fastify-csv-export: the sample server'
const introduction = [
  'CSV files that are streamed row by row from async generators, in constant memory. A download is whole, or its client sees that it broke.',
  'Paste the lines into a shell from the top: the first one shows rows as they arrive, the second how their export ended. What a line writes into a file is in the folder where you are.',
  'docs/sample-server.md describes every route and its parameters.'
]

interface Example {
  route: string
  about: string
  /** Options of curl that come before the URL. */
  options?: string
  path: string
  /** What a shell adds to the path. */
  pathEnd?: string
}

/** In an order in which each finds what it needs. A test compares them with the routes that are registered. */
const examples: Example[] = [
  {
    route: 'GET /download_csv_streaming',
    about: 'A CSV file of which each row is sent when it comes, in chunks. Its head is kept in head.txt.',
    options: '-i --raw -N -D head.txt',
    path: '/download_csv_streaming?rows=5&delay=300'
  },
  {
    route: 'GET /exports/:id',
    about: 'How that export ended. Its id is the Export-Id header of its reply.',
    options: String.raw`-w '\n'`,
    path: '/exports/',
    pathEnd: "$(grep -i '^export-id' head.txt | cut -c 12-47)"
  },
  {
    route: 'GET /download_csv',
    about: 'The same file, built whole in memory before its first byte is sent, with a Content-Length.',
    options: '-i --raw',
    path: '/download_csv?rows=5'
  },
  {
    route: 'GET /reports/cargoes.csv',
    about:
      'A report from PostgreSQL through a cursor. Filters: commodity, origin, destination, minWeight, maxWeight, shippedAfter, shippedBefore, import, limit.',
    options: '-o cargoes.csv',
    path: '/reports/cargoes.csv?commodity=Tea'
  },
  {
    route: 'POST /imports',
    about: 'Imports a file in the format of the report, with progress while the upload is still going on.',
    options: "-N -F 'file=@cargoes.csv'",
    path: '/imports'
  },
  {
    route: 'GET /reports/all-cargoes.csv',
    about: 'The whole report, about 100 MB, as COPY encodes it in PostgreSQL: the fastest way for plain SQL.',
    options: '-o all-cargoes.csv',
    path: '/reports/all-cargoes.csv'
  },
  {
    route: 'GET /streamed',
    about: 'A line every so many seconds; lines=0 never ends.',
    options: '-N',
    path: '/streamed?sleep=0.5&lines=5'
  },
  {
    route: 'GET /commands',
    about: 'The commands that the server can run.',
    options: String.raw`-w '\n'`,
    path: '/commands'
  },
  {
    route: 'GET /commands/:name/output',
    about: 'What a command prints, when it prints it, and its exit status.',
    options: '-N',
    path: '/commands/countdown/output'
  },
  { route: 'GET /', about: 'This page: text for curl, HTML for a browser.', path: '/' }
]

export default async function index(app: FastifyInstance): Promise<void> {
  await app.register(accepts)

  // A server without a database has no reports.
  let available: Example[] = []
  app.addHook('onReady', async () => {
    available = examples.filter(({ route }) => {
      const [method, url] = route.split(' ') as [HTTPMethods, string]
      return app.hasRoute({ method, url })
    })
  })

  app.get('/', (request, reply) => {
    const origin = `${request.protocol}://${request.host}`
    reply.header('vary', 'Accept').header('x-content-type-options', 'nosniff')
    if (request.type(['text/plain', 'text/html']) === 'text/html') {
      // The page holds nothing but text, links and its own style.
      reply.header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
      return reply.type('text/html; charset=utf-8').send(toHtml(available, origin))
    }
    return reply.type('text/plain; charset=utf-8').send(toText(available, origin))
  })
}

function toText(examples: Example[], origin: string): string {
  const entries = examples.map(
    (example) => `${example.route}\n  ${example.about}\n  ${curl(example, origin)}`
  )
  return `${[title, ...introduction, ...entries].join('\n\n')}\n`
}

function toHtml(examples: Example[], origin: string): string {
  const entries = examples.map((example) => {
    const { route, about, path, pathEnd } = example
    const heading =
      route.startsWith('GET ') && pathEnd === undefined
        ? `<a href="${escapeHtml(path)}">${escapeHtml(route)}</a>`
        : escapeHtml(route)
    return `<h2>${heading}</h2>\n<p>${escapeHtml(about)}</p>\n<pre>${escapeHtml(curl(example, origin))}</pre>`
  })
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${style}</style>
<h1>${title}</h1>
${introduction.map((text) => `<p>${text}</p>`).join('\n')}
${entries.join('\n')}
</html>
`
}

const style = `
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 }
h2 { font: 600 1rem/1.5 ui-monospace, monospace; margin: 1.8rem 0 0 }
p { margin: 0.2rem 0 0.5rem }
pre { margin: 0; padding: 0.6rem 0.8rem; white-space: pre-wrap; overflow-wrap: anywhere; border-radius: 0.4rem; background: #8882 }
`

function curl({ options, path, pathEnd }: Example, origin: string): string {
  const url = quoteForShell(origin + path) + (pathEnd === undefined ? '' : `"${pathEnd}"`)
  return ['curl', options, url].filter(Boolean).join(' ')
}

/** The Host header is the client's own words: quoted for its shell, as for HTML above. */
function quoteForShell(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}
