import type client from 'prom-client'
import type { ExportProgress, Receipt } from '../csv-export/index.ts'
import { keyOf, listen } from './events.ts'

export interface MetricsOptions {
  /** Where the metrics are kept. @default prom-client's own `register` */
  register?: client.Registry | undefined
}

/** What is used of prom-client. */
export type PromClient = Pick<typeof client, 'Counter' | 'Gauge' | 'Histogram' | 'register'>

/** Seconds. */
const durations = [0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600]
const firstBytes = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 15, 30]

/**
 * Metrics of all exports and report runs of this process, by report and by how they ended; docs/metrics.md lists them. Rows and
 * bytes are counted while an export runs.
 *
 * @param prom prom-client
 * @returns a function that stops counting; the metrics stay in their registry
 * @throws an error of prom-client if the registry has metrics of these names, as after a call before
 * @example
 * import client from 'prom-client'
 * import { collectMetrics } from 'fastify-csv-export/metrics'
 *
 * collectMetrics(client)
 * app.get('/metrics', async (_request, reply) => {
 *   reply.type(client.register.contentType)
 *   return client.register.metrics()
 * })
 */
export function collectMetrics(
  { Counter, Gauge, Histogram, register }: PromClient,
  { register: registry = register }: MetricsOptions = {}
): () => void {
  const registers = [registry]
  const running = new Gauge({
    name: 'csv_exports_running',
    help: 'Exports that run',
    labelNames: ['report'],
    registers
  })
  const ended = new Counter({
    name: 'csv_exports_total',
    help: 'Exports that have ended, by the status of their receipt',
    labelNames: ['report', 'status'],
    registers
  })
  const rows = new Counter({
    name: 'csv_export_rows_total',
    help: 'Rows written',
    labelNames: ['report'],
    registers
  })
  const bytes = new Counter({
    name: 'csv_export_bytes_total',
    help: 'Bytes of CSV written, before any content coding',
    labelNames: ['report'],
    registers
  })
  const duration = new Histogram({
    name: 'csv_export_duration_seconds',
    help: 'From the start of an export to its end',
    labelNames: ['report', 'status'],
    buckets: durations,
    registers
  })
  const firstByte = new Histogram({
    name: 'csv_export_first_byte_seconds',
    help: 'From the start of an export to the first byte that is given to the connection',
    labelNames: ['report'],
    buckets: firstBytes,
    registers
  })
  const runs = new Counter({
    name: 'csv_runs_total',
    help: 'Report runs that have ended, by their state, in the process where they ended',
    labelNames: ['report', 'state'],
    registers
  })
  const takenOver = new Counter({
    name: 'csv_runs_taken_over_total',
    help: 'Attempts of report runs whose worker was lost',
    labelNames: ['report'],
    registers
  })

  /** What has been counted of each that runs. */
  const counted = new Map<string, { rows: number; bytes: number }>()

  function count(progress: ExportProgress): void {
    const { report } = progress
    const before = counted.get(keyOf(progress)) ?? { rows: 0, bytes: 0 }
    rows.inc({ report }, progress.rows - before.rows)
    bytes.inc({ report }, progress.bytes - before.bytes)
    before.rows = progress.rows
    before.bytes = progress.bytes
  }

  return listen({
    start(progress) {
      counted.set(keyOf(progress), { rows: 0, bytes: 0 })
      running.inc({ report: progress.report })
    },
    progress(progress) {
      // One that had begun before is counted at its end.
      if (counted.has(keyOf(progress))) count(progress)
    },
    end(receipt: Receipt) {
      const { report, status } = receipt
      count(receipt)
      if (counted.delete(keyOf(receipt))) running.dec({ report })
      ended.inc({ report, status })
      duration.observe({ report, status }, receipt.duration / 1000)
      if (receipt.firstByteAfter !== null) firstByte.observe({ report }, receipt.firstByteAfter / 1000)
    },
    'run-taken-over': ({ report }) => takenOver.inc({ report }),
    'run-finished': ({ report, state }) => runs.inc({ report, state })
  })
}
