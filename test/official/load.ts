import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import { context, type HrTime, SpanStatusCode } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { traceExports } from '../../plugins/metrics/index.ts'
import { printed, startCurl } from '../clients.ts'
import { curl, gate } from '../helper.ts'
import { type App, assertEnds, beside, bothOrders, official, serveBeside } from './beside.ts'
import { exports } from './exports.ts'

beside('@fastify/rate-limit', 'its headers are on the reply, and what it refuses is no export', (t) =>
  bothOrders(t, async (t, order) => {
    const plugins = (app: App) =>
      app.register(official('@fastify/rate-limit'), { max: 6, timeWindow: 60_000 })
    const server = await serveBeside(t, plugins, exports, order)
    const { headers, early } = await assertEnds(t, server)
    t.equal(early.headers.get('x-ratelimit-limit'), '6')
    t.equal(headers.get('x-ratelimit-remaining'), '4')
    await (await fetch(`${server.url}/whole.csv`)).text()
    const refused = await fetch(`${server.url}/whole.csv`)
    t.equal(refused.status, 429)
    t.equal(refused.headers.get('export-id'), null)
    t.equal(refused.headers.get('content-disposition'), null)
    t.same(server.app.csvExports.running(), [])
  })
)

/** Rows without a pause, until the client leaves. */
function* endless() {
  for (let id = 1; ; id++) yield { id, text: `${id} rows without a pause` }
}

beside('@fastify/under-pressure', 'it refuses new requests alone', (t) =>
  bothOrders(t, async (t, order) => {
    let isHealthy = true
    const plugins = (app: App) =>
      app.register(official('@fastify/under-pressure'), {
        healthCheck: async () => isHealthy,
        healthCheckInterval: 10
      })
    const last = gate()
    const routes = (app: App) => {
      exports(app)
      app.get('/served', async () => 'served')
      app.get('/held.csv', (_request, reply) =>
        reply.csv(async function* () {
          yield { id: 1 }
          await last.opened
          yield { id: 2 }
        })
      )
    }
    const server = await serveBeside(t, plugins, routes, order)
    await assertEnds(t, server)

    const told = server.receipt()
    const running = startCurl(`${server.url}/held.csv`)
    await printed(running.stdout, /1\n/)
    isHealthy = false
    let refused: Response
    do {
      refused = await fetch(`${server.url}/served`)
      await refused.text()
    } while (refused.status !== 503)
    t.equal(refused.headers.get('retry-after'), '10')
    last.open()
    await printed(running.stdout, /2\n/)
    t.match(await told, { status: 'complete', rows: 2 }, 'what has begun goes on')
  })
)

beside('@fastify/under-pressure', 'a fast export is load to its utilization, not to its delay', async (t) => {
  const statusWith = async (limits: object, within: number): Promise<number> => {
    const plugins = (app: App) =>
      app.register(official('@fastify/under-pressure'), { sampleInterval: 100, ...limits })
    const { url } = await serveBeside(t, plugins, (app) => {
      app.get('/endless.csv', (_request, reply) => reply.csv(endless()))
      app.get('/', async () => 'served')
    })
    const client = startCurl('--output', '/dev/null', `${url}/endless.csv`)
    t.teardown(() => client.kill())
    // Some samples, while it runs.
    let status = 0
    const until = performance.now() + within
    while (status !== 503 && performance.now() < until) {
      const response = await fetch(url)
      status = response.status
      await response.text()
    }
    client.kill()
    await once(client, 'close')
    return status
  }
  t.equal(await statusWith({ maxEventLoopUtilization: 0.9 }, 20_000), 503)
  t.equal(await statusWith({ maxEventLoopDelay: 5_000 }, 1_000), 200)
})

beside('@fastify/circuit-breaker', 'exports are as they are without it', (t) =>
  bothOrders(t, async (t, order) => {
    const plugins = async (app: App) => {
      await app.register(official('@fastify/circuit-breaker'))
      app.addHook('preHandler', app.circuitBreaker())
    }
    await assertEnds(t, await serveBeside(t, plugins, exports, order))
  })
)

beside('@fastify/circuit-breaker', 'it opens if the source is opened ahead of the reply', async (t) => {
  const plugins = (app: App) => app.register(official('@fastify/circuit-breaker'), { threshold: 3 })
  const open = async () => {
    throw new Error('the database is gone')
  }
  const { url } = await serveBeside(t, plugins, (app) => {
    app.get('/inside.csv', { preHandler: app.circuitBreaker() }, (_request, reply) => reply.csv(open))
    app.get('/ahead.csv', { preHandler: app.circuitBreaker() }, async (_request, reply) =>
      reply.csv(await open())
    )
  })
  const statuses = async (path: string) => {
    const seen: number[] = []
    for (let request = 0; request < 6; request++) {
      const response = await fetch(`${url}/${path}.csv`)
      seen.push(response.status)
      await response.text()
    }
    return seen
  }
  t.same(await statuses('inside'), [500, 500, 500, 500, 500, 500])
  t.same(await statuses('ahead'), [500, 500, 503, 503, 503, 503])
})

beside('@fastify/request-context', 'the context is there in the source and for the receipt', (t) =>
  bothOrders(t, async (t, order) => {
    const { requestContext, default: plugin } = official('@fastify/request-context')
    const plugins = async (app: App) => {
      await app.register(plugin, { defaultStoreValues: ({ id }: { id: string }) => ({ id }) })
      app.addHook('preHandler', async (request) => requestContext.set('url', request.url))
    }
    const seen = new Map<string, unknown[]>()
    const see = () => seen.get(requestContext.get('url'))?.push(requestContext.get('id'))
    const told = { one: gate(), two: gate(), three: gate() }
    const server = await serveBeside(
      t,
      plugins,
      (app) => {
        exports(app)
        app.get<{ Params: { name: keyof typeof told } }>('/:name', ({ url, id, params }, reply) => {
          seen.set(url, [id])
          const onReceipt = () => {
            see()
            told[params.name].open()
          }
          async function* rows() {
            see()
            yield { id: 1 }
            await setTimeout(10)
            see()
            yield { id: 2 }
          }
          const open = () => {
            see()
            return rows()
          }
          return reply.csv(open, { onReceipt })
        })
      },
      order
    )
    await assertEnds(t, server)
    await Promise.all(
      Object.entries(told).map(async ([name, { opened }]) => {
        await (await fetch(`${server.url}/${name}`)).text()
        await opened
        const [id, ...others] = seen.get(`/${name}`) as unknown[]
        t.same(others, [id, id, id, id])
      })
    )
  })
)

beside('@fastify/otel', 'its span says 200 before a break; traceExports() says source_failed', async (t) => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  const exporter = new InMemorySpanExporter()
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  const { FastifyOtelInstrumentation } = official('@fastify/otel')
  const instrumentation = new FastifyOtelInstrumentation()
  instrumentation.setTracerProvider(provider)
  t.teardown(traceExports(provider.getTracer('exports')))
  for (const isFirst of [true, false]) {
    const server = await serveBeside(t, (app) => app.register(instrumentation.plugin()), exports, { isFirst })
    await assertEnds(t, server)
    exporter.reset()
    const told = server.receipt()
    t.equal((await curl(`${server.url}/late.csv`)).code, 56)
    await told
    const spans = exporter.getFinishedSpans()
    const [theirs, ours] = ['request', 'csv export'].map((name) => spans.find((span) => span.name === name))
    if (theirs === undefined || ours === undefined) return t.fail('spans are missing')
    t.match(theirs, {
      status: { code: SpanStatusCode.UNSET },
      attributes: { 'http.response.status_code': 200 }
    })
    t.match(ours, {
      status: { code: SpanStatusCode.ERROR },
      attributes: { 'csv_export.status': 'source_failed', 'csv_export.rows': 1 }
    })
    t.equal(ours.spanContext().traceId, theirs.spanContext().traceId)
    t.ok(hrTimeToMs(theirs.endTime) < hrTimeToMs(ours.endTime), 'theirs has ended first')
    t.ok(hrTimeToMs(theirs.duration) < hrTimeToMs(ours.duration), 'and was shorter than the rows took')
  }
  context.disable()
})

const hrTimeToMs = ([seconds, nanoseconds]: HrTime): number => seconds * 1e3 + nanoseconds / 1e6
