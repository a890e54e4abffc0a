export { collectMetrics, type MetricsOptions, type PromClient } from './collect-metrics.ts'
export { traceExports } from './trace-exports.ts'
