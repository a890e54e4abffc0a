import type { Span, Tracer } from '@opentelemetry/api'
import type { ExportStatus } from '../csv-export/index.ts'
import { keyOf, listen } from './events.ts'

/** `SpanStatusCode.ERROR`: https://opentelemetry.io/docs/specs/otel/trace/api/#set-status */
const errorStatus = 2

/** Ends that are not the server's to mend. */
const orderly: readonly ExportStatus[] = ['complete', 'client_gone', 'abandoned']

/**
 * A span `csv export` for each export of this process, a child of whatever span is active when it begins. It ends when the body
 * ends, and not with the handler, and has the status of the receipt: its rows, its bytes and what went wrong.
 *
 * @param tracer of `trace.getTracer()` of @opentelemetry/api
 * @returns a function that traces no more exports; those that run are left without an end
 * @example
 * import { trace } from '@opentelemetry/api'
 * import { traceExports } from 'fastify-csv-export/metrics'
 *
 * traceExports(trace.getTracer('exports'))
 */
export function traceExports(tracer: Tracer): () => void {
  const spans = new Map<string, Span>()
  return listen({
    start(progress) {
      const { id, report, startedAt } = progress
      const attributes = { 'csv_export.id': id, 'csv_export.report': report }
      spans.set(
        keyOf(progress),
        tracer.startSpan('csv export', { startTime: new Date(startedAt), attributes })
      )
    },
    end(receipt) {
      const key = keyOf(receipt)
      const span = spans.get(key)
      if (span === undefined) return
      spans.delete(key)
      const { status, rows, bytes, sentBytes, errorCode } = receipt
      span.setAttributes({
        'csv_export.status': status,
        'csv_export.rows': rows,
        'csv_export.bytes': bytes,
        'csv_export.sent_bytes': sentBytes,
        ...(errorCode !== null && { 'error.type': errorCode })
      })
      if (!orderly.includes(status)) span.setStatus({ code: errorStatus, message: status })
      span.end()
    }
  })
}
