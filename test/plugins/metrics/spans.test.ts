import { context, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor
} from '@opentelemetry/sdk-trace-base'
import t, { type Test } from 'tap'
import type { Receipt } from '../../../plugins/csv-export/index.ts'
import { traceExports } from '../../../plugins/metrics/index.ts'
import { curl, gate, serve } from '../../helper.ts'

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
t.teardown(() => context.disable())

const exporter = new InMemorySpanExporter()
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
const tracer = provider.getTracer('test')

function spanOf(name: string): ReadableSpan | undefined {
  return exporter.getFinishedSpans().find((span) => span.name === name)
}

async function traced(t: Test, rows: () => Iterable<object>): Promise<{ receipt: Receipt; code: number }> {
  exporter.reset()
  const stop = traceExports(tracer)
  t.teardown(stop)
  const ended = gate<Receipt>()
  const { url } = await serve(
    t,
    (app) => {
      app.get('/report', (_request, reply) =>
        tracer.startActiveSpan('request', (span) => {
          // As an instrumentation does that knows the handler alone.
          span.end()
          return reply.csv(rows())
        })
      )
    },
    { defaults: { onReceipt: ended.open } }
  )
  const { code } = await curl(`${url}/report`)
  return { receipt: await ended.opened, code }
}

t.test('a span ends with the body, and says what the receipt says', async (t) => {
  const { receipt } = await traced(t, () => [{ id: 1 }, { id: 2 }])
  const span = spanOf('csv export')
  t.match(span, {
    status: { code: SpanStatusCode.UNSET },
    ended: true,
    attributes: {
      'csv_export.id': receipt.id,
      'csv_export.report': '/report',
      'csv_export.status': 'complete',
      'csv_export.rows': 2,
      'csv_export.bytes': receipt.bytes,
      'csv_export.sent_bytes': receipt.sentBytes
    }
  })
  t.equal(span?.parentSpanContext?.spanId, spanOf('request')?.spanContext().spanId)
  t.ok((span?.duration[0] as number) >= 0)
})

t.test('a broken export is an error, though its status line said 200', async (t) => {
  const { code } = await traced(t, function* () {
    for (let id = 0; id < 20_000; id++) yield { id, text: 'x'.repeat(20) }
    throw Object.assign(new Error('lost'), { code: 'DB_LOST' })
  })
  t.not(code, 0)
  t.match(spanOf('csv export'), {
    status: { code: SpanStatusCode.ERROR, message: 'source_failed' },
    attributes: { 'csv_export.status': 'source_failed', 'error.type': 'DB_LOST' }
  })
})

t.test('an export that had begun before tracing did has no span', async (t) => {
  exporter.reset()
  const started = gate()
  const held = gate()
  const { url } = await serve(t, (app) => {
    app.get('/', (_request, reply) =>
      reply.csv(async function* () {
        yield { id: 1 }
        started.open()
        await held.opened
      })
    )
  })
  const early = curl(url)
  await started.opened
  t.teardown(traceExports(trace.getTracer('none')))
  t.teardown(traceExports(tracer))
  held.open()
  t.equal((await early).code, 0)
  t.equal(spanOf('csv export'), undefined)
})
