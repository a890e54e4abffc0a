import accepts from '@fastify/accepts'
import type { FastifyInstance, HTTPMethods } from 'fastify'
import { type Choice, toPage } from './page/page.ts'

const title = 'fastify-csv-export: the sample server'
const introduction = [
  'CSV files that are streamed row by row from async generators, in constant memory. A download is whole, or its client sees that it broke.',
  'Paste the lines into a shell from the top: the first one shows rows as they arrive, the second how their export ended. What a line writes into a file is in the folder where you are.',
  'docs/sample-server.md describes every route and its parameters.'
]

export interface Example {
  route: string
  about: string
  /** Options of curl that come before the URL. */
  options?: string
  path: string
  /** What a shell adds to the path. */
  pathEnd?: string
}

/** From the Location of the reply that the line before has kept. */
const runId = "$(grep -i '^location' run.txt | cut -c 17-52)"

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
    route: 'POST /reports/cargoes/runs',
    about:
      'The same report as a run: made in the background, and kept for a day. The filters are a JSON body. The reply names the run.',
    options: String.raw`-D run.txt -w '\n' -H 'Content-Type: application/json' -d '{"commodity":"Tea"}'`,
    path: '/reports/cargoes/runs'
  },
  {
    route: 'GET /runs/:id',
    about: 'How far it is. With this Prefer the reply comes when the run has ended, or after 30 seconds.',
    options: String.raw`-H 'Prefer: wait=30' -w '\n'`,
    path: '/runs/',
    pathEnd: runId
  },
  {
    route: 'GET /runs/:id/result',
    about:
      'Leads to the file of a run that succeeded. Here it takes the first 1,000 bytes alone, as if the download had broken.',
    options: '-L -r 0-999 -D result.txt -o tea.csv',
    path: '/runs/',
    pathEnd: `${runId}/result`
  },
  {
    route: 'GET /runs/:id/files/:fileId',
    about: 'The file, or the rest of one that has broken: -C - asks for what is not there yet.',
    options: '-C - -o tea.csv',
    path: '/runs/',
    pathEnd: "$(grep -i '^location' result.txt | cut -c 17-95)"
  },
  {
    route: 'GET /runs',
    about: 'The latest runs.',
    options: String.raw`-w '\n'`,
    path: '/runs?limit=5'
  },
  {
    route: 'POST /runs/:id/cancel',
    about: 'Ends a run, and its statement in the database. One that has ended stays as it is.',
    options: String.raw`-X POST -w '\n'`,
    path: '/runs/',
    pathEnd: `${runId}/cancel`
  },
  {
    route: 'DELETE /runs/:id',
    about: 'Removes a run that has ended, and its file.',
    options: '-X DELETE',
    path: '/runs/',
    pathEnd: runId
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

/** What people can choose on the page. */
const choices: Choice[] = [
  { label: 'All cargoes', report: 'cargoes', parameters: {} },
  { label: 'Cargoes of tea', report: 'cargoes', parameters: { commodity: 'Tea' } },
  { label: 'Cargoes from Santos', report: 'cargoes', parameters: { origin: 'Santos' } }
]

export default async function index(app: FastifyInstance): Promise<void> {
  await app.register(accepts)

  // A server without a database has no reports, and no runs of them.
  let available: Example[] = []
  let offered: Choice[] = []
  app.addHook('onReady', async () => {
    available = examples.filter(({ route }) => {
      const [method, url] = route.split(' ') as [HTTPMethods, string]
      return app.hasRoute({ method, url })
    })
    offered = choices.filter(({ report }) => app.hasRoute({ method: 'POST', url: `/reports/${report}/runs` }))
  })

  app.get('/', (request, reply) => {
    const origin = `${request.protocol}://${request.host}`
    const lines = available.map((example) => ({ ...example, line: curl(example, origin) }))
    reply.header('vary', 'Accept').header('x-content-type-options', 'nosniff')
    if (request.type(['text/plain', 'text/html']) === 'text/html') {
      const { html, policy } = toPage({ title, introduction, lines, choices: offered })
      return reply.header('content-security-policy', policy).type('text/html; charset=utf-8').send(html)
    }
    const entries = lines.map(({ route, about, line }) => `${route}\n  ${about}\n  ${line}`)
    return reply
      .type('text/plain; charset=utf-8')
      .send(`${[title, ...introduction, ...entries].join('\n\n')}\n`)
  })
}

function curl({ options, path, pathEnd }: Example, origin: string): string {
  const url = quoteForShell(origin + path) + (pathEnd === undefined ? '' : `"${pathEnd}"`)
  return ['curl', options, url].filter(Boolean).join(' ')
}

/** The Host header is the client's own words: quoted for its shell, as for HTML above. */
function quoteForShell(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}
